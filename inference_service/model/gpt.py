"""The GPT that Midfill trains and serves: a pre-norm decoder.

Rotary positions (Su et al. 2021), RMSNorm without gain (Zhang & Sennrich 2019), QK-norm (Henry et al. 2020),
grouped-query attention (Ainslie et al. 2023), squared ReLU (So et al. 2021), tied embedding, logit soft-cap
(Gemma 2). Shapes in comments: B batch, T new tokens, S cached + new tokens, H heads, K key/value heads,
D head width, C model width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference_service.model.kv_cache import KVCache


@dataclass(frozen=True, slots=True)
class GPTConfig:
    """Architecture. `context_length` in tokens; `d_model` must be `n_head` times an even head width."""

    vocab_size: int
    n_layer: int
    n_head: int
    n_kv_head: int
    d_model: int
    d_ff: int
    context_length: int
    rope_base: float = 10_000.0
    logit_softcap: float = 15.0

    def __post_init__(self) -> None:
        if self.d_model % self.n_head or (self.d_model // self.n_head) % 2:
            raise ValueError(f"d_model {self.d_model} is not n_head {self.n_head} times an even head width")
        if self.n_head % self.n_kv_head:
            raise ValueError(f"n_head {self.n_head} is not a multiple of n_kv_head {self.n_kv_head}")

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_head

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class StackedLinear(nn.Module):
    """Several bias-free projections of one input as one matrix product.

    They stay separate parameters because Muon orthogonalises each projection by itself.
    """

    def __init__(self, d_in: int, *d_outs: int) -> None:
        super().__init__()
        self.parts = nn.ParameterList(nn.Parameter(torch.empty(d_out, d_in)) for d_out in d_outs)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, torch.cat(tuple(self.parts)))


class Attention(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head, self.n_kv_head, self.head_dim = config.n_head, config.n_kv_head, config.head_dim
        kv_width = config.n_kv_head * config.head_dim
        self.qkv: nn.Module = StackedLinear(config.d_model, config.d_model, kv_width, kv_width)
        self.out: nn.Module = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], cache: KVCache | None, layer: int, mask: Tensor | None
    ) -> Tensor:
        B, T, C = x.shape
        heads = self.qkv(x).view(B, T, self.n_head + 2 * self.n_kv_head, self.head_dim).transpose(1, 2)
        qk, v = heads.split([self.n_head + self.n_kv_head, self.n_kv_head], dim=1)
        qk = _rotate(_norm(qk), rotary)  # the norm before the rotation keeps lengths equal
        q, k = qk.split([self.n_head, self.n_kv_head], dim=1)
        if cache is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            y = self._attend_cached(q, k, v, cache, layer, mask)
        return self.out(y.transpose(1, 2).reshape(B, T, C))

    def _attend_cached(
        self, q: Tensor, k: Tensor, v: Tensor, cache: KVCache, layer: int, mask: Tensor | None
    ) -> Tensor:
        B, H, T, D = q.shape
        k, v = cache.append(layer, k, v)  # (B, K, S, D)
        if T == 1:
            # all query heads of one key/value head attend as rows of one small matrix: no mask, no repeated keys
            # (and on a CPU four times faster than scaled_dot_product_attention)
            scores = q.reshape(B, self.n_kv_head, -1, D) * D**-0.5 @ k.transpose(2, 3)
            return (scores.softmax(-1) @ v).reshape(B, H, 1, D)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)


class MLP(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up: nn.Module = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.down: nn.Module = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.relu(self.up(x)).square())


class Block(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.mlp = MLP(config)

    def forward(
        self, x: Tensor, rotary: tuple[Tensor, Tensor], cache: KVCache | None, layer: int, mask: Tensor | None
    ) -> Tensor:
        x = x + self.attention(_norm(x), rotary, cache, layer, mask)
        return x + self.mlp(_norm(x))


class GPT(nn.Module):
    """Token ids (B, T) int64 -> logits (B, T, V) float32, soft-capped."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding: nn.Module = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        angles = torch.outer(
            torch.arange(config.context_length).float(),
            config.rope_base ** -torch.linspace(0, 1, config.head_dim // 2 + 1)[:-1],
        )
        self.quantized_head: nn.Module | None = None
        self.register_buffer("cos", angles.cos(), persistent=False)  # (context, D/2)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def init_weights(self, seed: int = 0) -> None:
        """Uniform inputs of variance 1/d_in, output projections zero (each block starts as the identity)."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if "embedding" in name:
                nn.init.normal_(parameter, std=0.02, generator=generator)
            elif name.endswith(("out.weight", "down.weight")):
                nn.init.zeros_(parameter)
            else:
                bound = (3 / parameter.shape[1]) ** 0.5
                nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def hidden(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """Final normed states (B, T, C). With a cache the tokens stand at positions `cache.length` and on."""
        start = cache.length if cache is not None else 0
        stop = start + tokens.shape[1]
        if stop > self.config.context_length:
            raise ValueError(f"{stop} tokens do not fit the context of {self.config.context_length}")
        rotary = self.cos[start:stop], self.sin[start:stop]
        # only several tokens after cached ones need a mask of their own; it is the same for all layers
        mask = cache.causal_mask(tokens.shape[1]) if cache is not None and start and tokens.shape[1] > 1 else None
        x = _norm(self.embedding(tokens))
        for layer, block in enumerate(self.blocks):
            x = block(x, rotary, cache, layer, mask)
        if cache is not None:
            cache.length = stop
        return _norm(x)

    def head(self, x: Tensor) -> Tensor:
        """Logits of hidden states (..., C) -> (..., V), with the tied embedding matrix."""
        return self.softcap(self.unembed(x).float())

    def unembed(self, x: Tensor) -> Tensor:
        """Raw logits in the type of `x`."""
        if self.quantized_head is not None:
            return self.quantized_head(x)
        return F.linear(x, self.embedding.weight.to(x.dtype))  # type: ignore[arg-type]

    def softcap(self, logits: Tensor) -> Tensor:
        """Logits squeezed smoothly into plus or minus `logit_softcap`."""
        return self.config.logit_softcap * torch.tanh(logits / self.config.logit_softcap)

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        return self.head(self.hidden(tokens, cache))


def _norm(x: Tensor) -> Tensor:
    # F.rms_norm is eight small kernels on a CPU, a third of a decoding step
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x * (x.shape[-1] ** 0.5 / length.clamp_min(1e-6))


def _rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary embedding over the two halves of the head; x (B, heads, T, D), tables (T, D/2)."""
    cos, sin = (table.to(x.dtype) for table in rotary)
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, left * sin + right * cos), dim=-1)

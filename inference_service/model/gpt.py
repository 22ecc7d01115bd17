"""The GPT that Midfill trains and serves: a pre-norm decoder, in the variants that `GPTConfig` describes.

Our own recipe has rotary positions (Su et al. 2021), RMSNorm without gain (Zhang & Sennrich 2019), QK-norm (Henry et
al. 2020), grouped-query attention (Ainslie et al. 2023), squared ReLU (So et al. 2021), a tied embedding and a logit
soft-cap (Gemma 2). Shapes in comments: B batch, T new tokens, S cached + new tokens, H heads, K key/value heads,
D head width, C model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference_service.model.config import GPTConfig
from inference_service.model.norm import build_norm, rms_norm
from inference_service.model.rotary import rotary_tables, rotate

__all__ = ["GPT", "GPTConfig", "StackedLinear"]

Rotary = tuple[Tensor, Tensor]

_STEEPEST = 30.0  # beyond it tanh is 1 to the last bit, and the square of exp would overflow in the gradient


class Cache(Protocol):
    """Keys and values of earlier tokens, and how the new ones attend to them."""

    def begin(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The positions (T,) of tokens (1, T) that are about to be computed, and the tokens before each (1, T)."""
        ...

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store k, v (1, K, T, D); q (1, H, T, D) attends to all that it may see -> (1, H, T, D)."""
        ...

    def end(self, tokens: Tensor) -> None:
        """All layers have attended."""
        ...


class Linear(nn.Linear):
    """Not initialised: that is `GPT.init_weights`' or a checkpoint's part."""

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """Likewise."""

    def reset_parameters(self) -> None:
        pass


class StackedLinear(nn.Module):
    """Several projections of one input as one matrix product, with one bias for all or none.

    They stay separate parameters because Muon orthogonalises each projection by itself.
    """

    def __init__(self, d_in: int, *d_outs: int, bias: bool) -> None:
        super().__init__()
        self.parts = nn.ParameterList(nn.Parameter(torch.empty(d_out, d_in)) for d_out in d_outs)
        self.bias = nn.Parameter(torch.empty(sum(d_outs))) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return F.linear(x, torch.cat(tuple(self.parts)), self.bias)
        # copying all weights would cost a decoding step more than the product itself
        y = torch.cat([F.linear(x, part) for part in self.parts], dim=-1)
        return y if self.bias is None else y + self.bias


class Attention(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head, self.n_kv_head, self.head_dim = config.n_head, config.n_kv_head, config.head_dim
        self.qk_norm, self.norm_eps = config.qk_norm, config.norm_eps
        q_width, kv_width = config.n_head * config.head_dim, config.n_kv_head * config.head_dim
        self.qkv: nn.Module = StackedLinear(config.d_model, q_width, kv_width, kv_width, bias=config.qkv_bias)
        self.out: nn.Module = Linear(q_width, config.d_model, bias=config.out_bias)

    def forward(self, x: Tensor, rotary: Rotary | None, cache: Cache | None, layer: int) -> Tensor:
        B, T, _ = x.shape
        heads = self.qkv(x).view(B, T, self.n_head + 2 * self.n_kv_head, self.head_dim).transpose(1, 2)
        qk, v = heads.split([self.n_head + self.n_kv_head, self.n_kv_head], dim=1)
        if self.qk_norm:  # before the rotation, which keeps lengths
            qk = rms_norm(qk, self.norm_eps)
        if rotary is not None:
            qk = rotate(qk, *rotary)
        q, k = qk.split([self.n_head, self.n_kv_head], dim=1)
        if cache is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            y = cache.attend(layer, q, k, v)
        return self.out(y.transpose(1, 2).reshape(B, T, self.n_head * self.head_dim))


def _relu2(x: Tensor) -> Tensor:
    return F.relu(x).square()


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _swiglu(x: Tensor) -> Tensor:
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu2": _relu2,
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "swiglu": _swiglu,
}


class MLP(nn.Module):
    """Up, activation, down; a gated activation (Shazeer 2020) takes two projections up, the gate first."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        width, bias = config.d_model, config.mlp_bias
        self.activation = ACTIVATIONS[config.activation]
        self.up: nn.Module = (
            StackedLinear(width, config.d_ff, config.d_ff, bias=bias)
            if config.activation == "swiglu"
            else Linear(width, config.d_ff, bias=bias)
        )
        self.down: nn.Module = Linear(config.d_ff, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class Block(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention_norm = build_norm(config)
        self.attention = Attention(config)
        self.mlp_norm = build_norm(config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rotary: Rotary | None, cache: Cache | None, layer: int) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rotary, cache, layer)
        return x + self.mlp(self.mlp_norm(x))


class GPT(nn.Module):
    """Token ids (B, T) int64 -> logits (B, T, V) float32, soft-capped."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding: nn.Module = Embedding(config.vocab_size, config.d_model)
        self.positions = Embedding(config.context_length, config.d_model) if config.positions == "learned" else None
        self.bigrams: nn.Module | None = Embedding(config.bigram_rows, config.d_model) if config.bigram_rows else None
        self.embedding_norm = build_norm(config) if config.embedding_norm else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.final_norm = build_norm(config)
        # None: tied to the embedding
        self.unembedding: nn.Module | None = (
            None if config.tied_head else Linear(config.d_model, config.vocab_size, bias=False)
        )
        if config.positions == "rotary":
            cos, sin = rotary_tables(config)
            self.register_buffer("cos", cos, persistent=False)  # (context, D)
            self.register_buffer("sin", sin, persistent=False)

    def init_weights(self, seed: int = 0) -> None:
        """Uniform inputs of variance 1/d_in, output projections zero (each block starts as the identity)."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
            elif name.startswith(("embedding.", "positions.", "unembedding.")):
                nn.init.normal_(parameter, std=0.02, generator=generator)
            elif name.endswith(("out.weight", "down.weight")) or name.startswith("bigrams."):
                nn.init.zeros_(parameter)
            else:
                bound = (3 / parameter.shape[1]) ** 0.5
                nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def embed(self, tokens: Tensor, previous: Tensor, positions: Tensor | slice) -> Tensor:
        """What enters the first block (B, T, C); `previous` (B, T) are the tokens before `tokens`."""
        x = self.embedding(tokens)
        if self.bigrams is not None:
            x = x + self.bigrams(bigram_rows(tokens, previous, self.config.bigram_rows))
        if self.positions is not None:
            x = x + self.positions.weight[positions]
        return x if self.embedding_norm is None else self.embedding_norm(x)

    def hidden(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """Final normed states (B, T, C). With a cache the tokens stand after those that it holds."""
        if cache is None:
            if tokens.shape[1] > self.config.context_length:
                raise ValueError(f"{tokens.shape[1]} tokens do not fit the context of {self.config.context_length}")
            positions: Tensor | slice = slice(0, tokens.shape[1])
            previous = torch.cat((torch.zeros_like(tokens[:, :1]), tokens), dim=1)[:, :-1]
        else:
            positions, previous = cache.begin(tokens)
        rotary = (self.cos[positions], self.sin[positions]) if self.config.positions == "rotary" else None
        x = self.embed(tokens, previous, positions)
        for layer, block in enumerate(self.blocks):
            x = block(x, rotary, cache, layer)
        if cache is not None:
            cache.end(tokens)
        return self.final_norm(x)

    def head(self, x: Tensor) -> Tensor:
        """Logits of hidden states (..., C) -> (..., V) float32."""
        return self.softcap(self.unembed(x).float())

    @property
    def head_weight(self) -> Tensor:
        """The (V, C) matrix that turns states into logits: the embedding's where the head is tied."""
        return (self.unembedding or self.embedding).weight  # type: ignore[return-value]

    def unembed(self, x: Tensor) -> Tensor:
        """Raw logits in the type of `x`."""
        if self.unembedding is not None:
            return self.unembedding(x)
        return F.linear(x, self.embedding.weight.to(x.dtype))  # type: ignore[arg-type]

    def softcap(self, logits: Tensor) -> Tensor:
        """Logits squeezed smoothly into plus or minus `logit_softcap`."""
        cap = self.config.logit_softcap
        if cap and logits.requires_grad:
            # tanh spelled with exp: compiled, torch's own tanh takes a twelfth of a training step on a CPU
            return cap - 2 * cap / (1 + torch.exp((logits * (2 / cap)).clamp(-_STEEPEST, _STEEPEST)))
        return cap * torch.tanh(logits / cap) if cap else logits

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        return self.head(self.hidden(tokens, cache))


def bigram_rows(tokens: Any, previous: Any, rows: int) -> Any:
    """Which row of a table of `rows` stands for a pair of tokens (tensors or arrays): a hash, so pairs share rows."""
    return (tokens * 1_000_003 ^ previous * 8_191) % rows

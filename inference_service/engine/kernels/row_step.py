"""The whole forward pass of a few tokens, one a row, by kernels of few launches: what a CUDA graph replays.

Every token is a row of its own with the block table of its sequence, so decoding, guesses to verify and short prefills
are all the same step. Seven launches a layer with the Triton kernels; the plain twin is `GPT.hidden` over a
`PagedBatch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from inference_service.engine.kernels.parts import Int8Matrices, Norm, Parts, Projection, Rows
from inference_service.engine.kernels.plain import normed
from inference_service.engine.kv_pool import KVPool
from inference_service.model.config import GPTConfig
from inference_service.model.gpt import bigram_rows
from inference_service.model.rotary import rotary_tables


class Kernels(Protocol):
    """`plain` or `triton_kernels`; shapes are told there."""

    def linear(
        self,
        x: Tensor,
        projection: Projection,
        norm: Norm | None = None,
        activation: str = "",
        residual: Tensor | None = None,
    ) -> Tensor: ...

    def heads(
        self,
        qkv: Tensor,
        rows: Rows,
        pool: KVPool,
        layer: int,
        config: GPTConfig,
        rotary: tuple[Tensor, Tensor] | None,
    ) -> Tensor: ...

    def attend(self, q: Tensor, rows: Rows, pool: KVPool, layer: int) -> Tensor: ...


class RowStep:
    """Embedding, blocks and head with int8 weights and float32 activations between the kernels."""

    def __init__(
        self,
        config: GPTConfig,
        parameters: Mapping[str, Tensor],
        int8: Int8Matrices,
        kernels: Kernels,
        device: torch.device,
    ) -> None:
        """`parameters` as a GPT names them; matrices that `int8` lacks are quantized here."""
        self._config, self._kernels = config, kernels
        parts = Parts(config, parameters, int8, device)
        self._embedding = parts.projection("embedding")
        self._head = self._embedding if config.tied_head else parts.projection("unembedding")
        self._bigrams = parts.projection("bigrams") if config.bigram_rows else None
        self._positions = parts.vector("positions.weight") if config.positions == "learned" else None
        self._rotary: tuple[Tensor, Tensor] | None = None
        if config.positions == "rotary":
            cos, sin = rotary_tables(config)
            self._rotary = cos.to(device), sin.to(device)
        self._embedding_norm = parts.norm("embedding_norm") if config.embedding_norm else None
        self._layers = [
            (
                parts.norm(f"blocks.{layer}.attention_norm"),
                parts.projection(f"blocks.{layer}.attention.qkv"),
                parts.projection(f"blocks.{layer}.attention.out"),
                parts.norm(f"blocks.{layer}.mlp_norm"),
                parts.projection(f"blocks.{layer}.mlp.up"),
                parts.projection(f"blocks.{layer}.mlp.down"),
            )
            for layer in range(config.n_layer)
        ]
        self._final_norm = parts.norm("final_norm")

    def logits(self, rows: Rows, pool: KVPool) -> Tensor:
        """(N, V) float32 of every row."""
        c, kernels = self._config, self._kernels
        x = self._embed(rows)
        for layer, (attention_norm, qkv, out, mlp_norm, up, down) in enumerate(self._layers):
            q = kernels.heads(kernels.linear(x, qkv, attention_norm), rows, pool, layer, c, self._rotary)
            kernels.linear(kernels.attend(q, rows, pool, layer), out, residual=x)
            kernels.linear(kernels.linear(x, up, mlp_norm, c.activation), down, residual=x)
        logits = kernels.linear(x, self._head, self._final_norm)
        return c.logit_softcap * torch.tanh(logits / c.logit_softcap) if c.logit_softcap else logits

    def _embed(self, rows: Rows) -> Tensor:
        x = _look_up(self._embedding, rows.tokens)
        if self._bigrams is not None:
            pairs = bigram_rows(rows.tokens.long(), rows.previous.long(), self._config.bigram_rows)
            x = x + _look_up(self._bigrams, pairs)
        if self._positions is not None:
            x = x + self._positions[rows.positions]
        return x if self._embedding_norm is None else normed(x, self._embedding_norm)


def _look_up(table: Projection, rows: Tensor) -> Tensor:
    return table.weight[rows].float() * table.scale[rows, None]

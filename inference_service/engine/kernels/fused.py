"""The compiled CPU step over a model's int8 rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from inference_service.engine.kernels import cpu_step
from inference_service.engine.kernels.cpu_step import Matrix, Norms, Shape, Weights
from inference_service.engine.kv_pool import KVPool
from inference_service.engine.scheduler import Work, wanted_rows
from inference_service.model.config import GPTConfig
from inference_service.model.gpt import bigram_rows
from inference_service.model.quantize import quantize_rows
from inference_service.model.rotary import rotary_tables

Rows = tuple[np.ndarray, np.ndarray]

_ACTIVATIONS = {
    "relu2": cpu_step.RELU2,
    "gelu": cpu_step.GELU,
    "gelu_tanh": cpu_step.GELU_TANH,
    "swiglu": cpu_step.SWIGLU,
}


class FusedStep:
    """Embedding, blocks and head with int8 weights; int8 embedding rows are widened as they are looked up."""

    def __init__(
        self, config: GPTConfig, parameters: Mapping[str, Tensor], int8: Mapping[str, tuple[Tensor, Tensor]]
    ) -> None:
        """`parameters` as a GPT names them; matrices that `int8` lacks are quantized here."""
        c = self._config = config

        def rows(name: str) -> Rows:
            weight, scale = int8.get(name) or quantize_rows(parameters[name])
            return weight.numpy(), scale.numpy()

        def matrix(projection: str) -> Matrix:
            layers = []
            for layer in range(c.n_layer):
                prefix = f"blocks.{layer}.{projection}."
                names = [name for name in parameters if name.startswith(prefix) and parameters[name].dim() == 2]
                layers.append([np.concatenate(arrays) for arrays in zip(*map(rows, names), strict=True)])
            weights, scales = zip(*layers, strict=True)
            biases = _stack(parameters, [f"blocks.{layer}.{projection}.bias" for layer in range(c.n_layer)])
            return Matrix(np.stack(weights), np.stack(scales), biases)

        norms = [f"blocks.{layer}.{part}_norm" for layer in range(c.n_layer) for part in ("attention", "mlp")]
        norms.append("final_norm")
        half = c.head_dim // 2 if c.positions == "rotary" else 0
        none = np.empty((0, 0), np.float32)
        cos, sin = rotary_tables(c)
        self._weights = Weights(
            matrix("attention.qkv"),
            matrix("attention.out"),
            matrix("mlp.up"),
            matrix("mlp.down"),
            Norms(
                _stack(parameters, [f"{norm}.weight" for norm in norms]),
                _stack(parameters, [f"{norm}.bias" for norm in norms]),
            ),
            cos[:, :half].contiguous().numpy() if half else none,
            sin[:, half:].contiguous().numpy() if half else none,
        )
        self._shape = Shape(c.norm == "layer", c.norm_eps, c.embedding_norm, c.qk_norm, _ACTIVATIONS[c.activation])
        self._embedding = rows("embedding.weight")
        self._head = self._embedding if c.tied_head else rows("unembedding.weight")
        self._bigrams = rows("bigrams.weight") if c.bigram_rows else None
        self._positions = parameters["positions.weight"].numpy() if c.positions == "learned" else None

    def logits(self, work: Sequence[Work], pool: KVPool) -> Tensor:
        """Compute the work; logits (R, V) float32 of the positions that it asks for, in its order."""
        states = self._hidden(work, pool)[wanted_rows(work)]
        out = np.empty((states.shape[0], self._head[0].shape[0]), np.float32)
        cpu_step.matmul(*self._head, states, out)
        logits = torch.from_numpy(out)
        cap = self._config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits

    def _hidden(self, work: Sequence[Work], pool: KVPool) -> np.ndarray:
        """Final normed states (N, C) float32 of all tokens of the work, in its order."""
        count = sum(len(item.tokens) for item in work)
        tokens, previous = np.empty(count, np.int64), np.zeros(count, np.int64)
        positions = np.empty(count, np.int64)
        slots = np.zeros((count, max(item.start + len(item.tokens) for item in work)), np.int64)
        n = 0
        for item in work:
            stop, new = item.start + len(item.tokens), len(item.tokens)
            assert item.sequence.lease is not None
            tokens[n : n + new] = item.tokens
            previous[n : n + new] = item.previous
            positions[n : n + new] = range(item.start, stop)
            slots[n : n + new, :stop] = pool.slots(item.sequence.lease.blocks, stop)
            n += new
        x = _look_up(self._embedding, tokens)
        if self._bigrams is not None:
            x += _look_up(self._bigrams, bigram_rows(tokens, previous, self._config.bigram_rows))
        if self._positions is not None:
            x += self._positions[positions]
        cpu_step.hidden(x, positions, slots, self._weights, self._shape, pool.keys.numpy(), pool.values.numpy())
        return x


def _stack(parameters: Mapping[str, Tensor], names: Sequence[str]) -> np.ndarray:
    """(names, width) float32, or nothing where the model has no such parameters."""
    if names[0] not in parameters:
        return np.empty((0, 0), np.float32)
    return np.stack([parameters[name].float().numpy() for name in names])


def _look_up(table: Rows, rows: np.ndarray) -> np.ndarray:
    weight, scale = table
    return weight[rows] * scale[rows, None]

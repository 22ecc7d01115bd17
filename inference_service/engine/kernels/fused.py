"""The compiled CPU step over a model's int8 rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from inference_service.engine.kernels import cpu_layers, cpu_step
from inference_service.engine.kernels.cpu_attention import TOGETHER
from inference_service.engine.kernels.cpu_greedy import greedy
from inference_service.engine.kernels.cpu_step import Batch, Matrix, Norms, Scratch, Shape, Weights
from inference_service.engine.kernels.simd import HAS_BFLOAT16, LANES, TILE_ROWS, packed
from inference_service.engine.kernels.team import Team, counters
from inference_service.engine.kv_pool import KVPool
from inference_service.engine.scheduler import Work, wanted_rows
from inference_service.model.config import GPTConfig
from inference_service.model.quantize import quantize_rows
from inference_service.model.rotary import rotary_tables

Rows = tuple[np.ndarray, np.ndarray]

_ACTIVATIONS = {
    "relu2": cpu_layers.RELU2,
    "gelu": cpu_layers.GELU,
    "gelu_tanh": cpu_layers.GELU_TANH,
    "swiglu": cpu_layers.SWIGLU,
}


class FusedStep:
    """Embedding, blocks and head with int8 weights, computed by `threads` threads."""

    def __init__(
        self,
        config: GPTConfig,
        parameters: Mapping[str, Tensor],
        int8: Mapping[str, tuple[Tensor, Tensor]],
        threads: int = 1,
    ) -> None:
        """`parameters` are those that are no int8 rows, as a GPT names them; matrices among them are quantized here.

        Raises ValueError for odd widths, of which no pairs can be made.
        """
        c = self._config = config
        if (c.d_model | c.n_head * c.head_dim | c.d_ff) & 1:
            raise ValueError(f"widths must be even: {c.d_model}, {c.n_head * c.head_dim}, {c.d_ff}")
        self._team, self._threads = Team(threads), threads

        def rows(name: str) -> Rows:
            weight, scale = int8.get(name) or quantize_rows(parameters[name])
            return weight.numpy(), scale.numpy()

        names = [*int8, *parameters]

        def matrix(projection: str) -> Matrix:
            prefixes = [f"blocks.{layer}.{projection}." for layer in range(c.n_layer)]
            weights, scales = [], []
            for prefix in prefixes:
                parts = sorted({name for name in names if name.startswith(prefix) and not name.endswith("bias")})
                layer = [np.concatenate(arrays) for arrays in zip(*map(rows, parts), strict=True)]
                weights.append(packed(layer[0]).reshape(-1))
                scales.append(layer[1])
            biases = _stack(parameters, [f"{prefix}bias" for prefix in prefixes])
            return Matrix(np.concatenate(weights), np.stack(scales), biases)

        def table(name: str) -> Matrix:
            weight, scale = rows(name)
            return Matrix(packed(weight).reshape(-1), scale[None], np.empty((0, 0), np.float32))

        norms = [f"blocks.{layer}.{part}_norm" for layer in range(c.n_layer) for part in ("attention", "mlp")]
        norms.append("final_norm")
        half = c.head_dim // 2 if c.positions == "rotary" else 0
        none = np.empty((0, 0), np.float32)
        cos, sin = rotary_tables(c)
        embedding = table("embedding.weight")
        self._weights = Weights(
            embedding,
            table("bigrams.weight") if c.bigram_rows else Matrix(np.empty(0, np.int8), none, none),
            parameters["positions.weight"].float().numpy() if c.positions == "learned" else none,
            matrix("attention.qkv"),
            matrix("attention.out"),
            matrix("mlp.up"),
            matrix("mlp.down"),
            Norms(
                _stack(parameters, [f"{norm}.weight" for norm in norms]),
                _stack(parameters, [f"{norm}.bias" for norm in norms]),
            ),
            embedding if c.tied_head else table("unembedding.weight"),
            cos[:, :half].contiguous().numpy() if half else none,
            sin[:, half:].contiguous().numpy() if half else none,
        )
        self._shape = Shape(
            c.norm == "layer", c.norm_eps, c.embedding_norm, c.qk_norm, _ACTIVATIONS[c.activation],
            c.bigram_rows, c.d_ff, c.n_layer, c.logit_softcap,
        )  # fmt: skip

    def ways(self) -> dict[str, Callable[[Sequence[Work], KVPool], Tensor]]:
        """`logits` by all threads, and where there are several also by one, by names for people."""
        name = "fused step of int8 weights (numba)"
        if self._threads == 1:
            return {name: self.logits}
        return {f"{name}, {self._threads} threads": self.logits, f"{name}, 1 thread": self._alone}

    def _alone(self, work: Sequence[Work], pool: KVPool) -> Tensor:
        return self.logits(work, pool, alone=True)

    def logits(self, work: Sequence[Work], pool: KVPool, *, alone: bool = False) -> Tensor:
        """Compute the work; logits (R, V) float32 of the positions that it asks for, in its order.

        The pool must be bfloat16.
        """
        batch = self._batch(work, pool)
        scratch = self._scratch(len(batch.tokens), len(batch.wanted))
        keys, values = (part.view(torch.int16).numpy() for part in (pool.keys, pool.values))
        state = counters(cpu_step.phases(self._config.n_layer))
        arguments = state, batch, self._weights, self._shape, keys, values, scratch
        if alone:
            cpu_step.step(*arguments)
        else:
            self._team.run(cpu_step.step, *arguments)
        return torch.from_numpy(scratch.logits)

    def pick_greedy(self, logits: Tensor) -> Tensor:
        """logits (R, V) float32 -> (2, R) float64: tokens and their log probabilities, as `sampler.pick_greedy`."""
        picked = np.empty((2, logits.shape[0]))
        greedy(logits.numpy(), picked)
        return torch.from_numpy(picked)

    def _batch(self, work: Sequence[Work], pool: KVPool) -> Batch:
        count = sum(len(item.tokens) for item in work)
        tokens, previous, positions, owner = (np.empty(count, np.int64) for _ in range(4))
        slots = np.zeros((len(work), max(item.start + len(item.tokens) for item in work)), np.int64)
        segments, blocks = np.empty((len(work), 2), np.int64), []
        shared = self._config.n_head // self._config.n_kv_head
        n = 0
        for i, item in enumerate(work):
            new = len(item.tokens)
            stop = item.start + new
            assert item.sequence.lease is not None
            tokens[n : n + new], previous[n : n + new] = item.tokens, item.previous
            positions[n : n + new], owner[n : n + new] = range(item.start, stop), i
            slots[i, :stop] = pool.slots(item.sequence.lease.blocks, stop)
            segments[i] = n, item.start
            queries = new * shared
            together = LANES if queries >= TOGETHER else 1
            blocks += [(i, first, min(together, queries - first)) for first in range(0, queries, together)]
            n += new
        wanted = np.array(wanted_rows(work), np.int64)
        return Batch(tokens, previous, positions, owner, slots, segments, np.array(blocks), wanted)

    def _scratch(self, rows: int, wanted: int) -> Scratch:
        c = self._config
        attended = c.n_head * c.head_dim
        raised = c.d_ff * (2 if c.activation == "swiglu" else 1)
        padded = -(-max(rows, wanted) // TILE_ROWS) * TILE_ROWS
        widest = padded * max(c.d_model, attended, c.d_ff)

        def room(*shape: int) -> np.ndarray:
            return np.empty(shape, np.float32)

        return Scratch(
            x=room(rows, c.d_model),
            projected=room(rows, attended + 2 * c.n_kv_head * c.head_dim),
            attended=room(rows, attended),
            raised=room(rows, raised),
            packed=np.empty(widest // 2 if HAS_BFLOAT16 else widest, cpu_layers.PACKED),
            logits=room(wanted, c.vocab_size),
        )


def _stack(parameters: Mapping[str, Tensor], names: Sequence[str]) -> np.ndarray:
    """(names, width) float32, or nothing where the model has no such parameters."""
    if names[0] not in parameters:
        return np.empty((0, 0), np.float32)
    return np.stack([parameters[name].float().numpy() for name in names])

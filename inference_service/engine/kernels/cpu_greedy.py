"""The most probable token of each row of logits and its log probability, compiled by numba."""

from __future__ import annotations

import math

import numpy as np

from inference_service.engine.kernels.cpu_layers import INFINITE, exp, f32
from inference_service.engine.kernels.jit import compiled

_ABSOLUTE = np.int32(0x7FFFFFFF)


@compiled
def _ordered(bits):  # type: ignore[no-untyped-def]
    """A number for the bits of a float32 that is higher for higher floats; comparing integers vectorises."""
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & _ABSOLUTE))


@compiled
def greedy(logits, picked):  # type: ignore[no-untyped-def]
    """logits (R, V) float32 -> picked (2, R) float64: tokens, and log probabilities in nats, NaN of rows that are not
    finite throughout. The plain twin is `sampler.pick_greedy`."""
    size = logits.shape[1]
    for r in range(logits.shape[0]):
        line = logits[r]
        bits = line.view(np.int32)
        highest, largest = np.int32(-_ABSOLUTE), np.int32(0)
        for j in range(size):
            highest = max(highest, _ordered(bits[j]))
            largest = max(largest, np.int32(bits[j] & _ABSOLUTE))
        if largest >= INFINITE:  # the bits of NaN are above it
            picked[0, r], picked[1, r] = 0, math.nan
            continue
        token = np.int32(size)
        for j in range(size):
            token = min(token, np.int32(j) if _ordered(bits[j]) == highest else np.int32(size))
        value, total = line[token], f32(0)
        for j in range(size):
            total += exp(line[j] - value)
        picked[0, r], picked[1, r] = token, -math.log(total)

"""How fast a device reads its memory, measured in a moment: what its steps are judged by."""

from __future__ import annotations

import time

import torch

_BYTES = {"cuda": 2**30, "cpu": 2**25}  # more than the caches hold, except for a server's


@torch.inference_mode()
def measure_bandwidth(device: torch.device) -> float:
    """Bytes a second of the best of five passes over a large array."""
    array = torch.zeros(_BYTES[device.type] // 4, device=device)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        float(array.sum())  # waits for the device
        best = min(best, time.perf_counter() - started)
    return array.nbytes / best

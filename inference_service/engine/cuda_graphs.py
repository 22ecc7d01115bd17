"""Record a fixed sequence of GPU launches once and replay it with one call."""

from __future__ import annotations

from collections.abc import Callable

import torch

Function = Callable[[], None]


def capture(function: Function) -> Function:
    """A replay of `function` on the current CUDA device.

    `function` reads and writes tensors that stay where they are, and never waits for the device. It runs three times
    first, so that kernels are compiled and libraries set up outside of the recording.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


def uncaptured(function: Function) -> Function:
    """What stands in for `capture` where there are no graphs."""
    return function

"""`torch.export`: the forward pass as a graph with a dynamic batch and length, and no Python."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from inference_service.model.directory import LoadedModel
from inference_service.model.gpt import GPT
from training.export.checks import largest_difference, written

_LARGEST_BATCH = 1024


class _Logits(nn.Module):
    """Tokens (batch, sequence) int64 -> logits (batch, sequence, vocabulary) float32, and no cache."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(tokens)


def trace(model: GPT) -> ExportedProgram:
    """The program of a model; its only input is called "tokens"."""
    sizes = {0: Dim("batch", min=1, max=_LARGEST_BATCH), 1: Dim("sequence", min=1, max=model.config.context_length)}
    example = torch.zeros(2, min(8, model.config.context_length), dtype=torch.int64)
    with torch.no_grad():
        return torch.export.export(_Logits(model), (example,), dynamic_shapes={"tokens": sizes})


def export_program(loaded: LoadedModel, out: Path) -> str:
    """Write a .pt2 file, read it again and compare. Returns what to tell. Raises BadExport."""
    model = loaded.build_float()
    with written(out) as path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about its own interfaces
            with path.open("wb") as file:  # a path would have to end in .pt2
                torch.export.save(trace(model), file)
            with path.open("rb") as file:
                program = torch.export.load(file).module()
        difference = largest_difference(model, program)
    return f"read again, logits differ from ours by at most {difference:.2g}"

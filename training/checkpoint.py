"""Checkpoints of a running training: one safetensors file, replaced atomically."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


class BadCheckpoint(ValueError):
    """A checkpoint that cannot be used; the message says the path and what to do."""


def save(path: Path, step: int, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    """Write model and optimizer tensors so that a crash at any moment leaves the old or the new file."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for i, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"optimizer.{i}.{index}.{key}"] = torch.as_tensor(value)
    partial = path.with_suffix(".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        partial,
        metadata={"step": json.dumps(step)},
    )
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def load(path: Path, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> int:
    """Restore tensors in place; returns the step. Raises BadCheckpoint on a damaged or different file."""
    try:
        with safe_open(path, framework="pt") as file:
            step = int(json.loads(file.metadata()["step"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        model.load_state_dict(_below(tensors, "model."))
        for i, optimizer in enumerate(optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _below(tensors, f"optimizer.{i}.").items():
                index, key = name.split(".", 1)
                state.setdefault(int(index), {})[key] = tensor
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    except (SafetensorError, OSError, KeyError, TypeError, RuntimeError) as error:
        raise BadCheckpoint(f"{path} cannot be resumed from ({error}): delete it to start again") from error
    return step


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

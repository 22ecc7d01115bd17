"""Checkpoints of a running training: one safetensors file with its checksum, replaced atomically, by a thread."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from training.distributed import Ranks

FILE = "checkpoint.safetensors"


class BadCheckpoint(ValueError):
    """A checkpoint that cannot be used; the message says the path and what to do."""


class CheckpointNotWritten(OSError):
    """The disk did not take a checkpoint; the one before it is intact."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A training at the end of a step, in host memory.

    `tensors` are the weights ("model.NAME") and what the optimizers keep ("optimizer.I.PARAMETER.KEY");
    `state` is JSON: "step", and whatever else the loop needs to go on as if nothing had happened.
    """

    tensors: dict[str, Tensor]
    state: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.state["step"])


def take(model: nn.Module, optimizers: list[torch.optim.Optimizer], state: dict[str, Any]) -> Snapshot:
    """Copy everything to host memory; training may go on at once."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for i, optimizer in enumerate(optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            for key, value in values.items():
                tensors[f"optimizer.{i}.{index}.{key}"] = torch.as_tensor(value)
    copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    return Snapshot(copies, state)


def restore(snapshot: Snapshot, model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    """Put a snapshot's tensors back, in place. Raises ValueError when it is of another model or optimizer."""
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    found = {name: tensor.shape for name, tensor in _below(snapshot.tensors, "model.").items()}
    if expected != found:
        differing = min(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
        raise ValueError(f"it is of another model, which differs at {differing}")
    model.load_state_dict(_below(snapshot.tensors, "model."))
    for i, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _below(snapshot.tensors, f"optimizer.{i}.").items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = tensor.clone()
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def write(path: Path, snapshot: Snapshot) -> None:
    """Write so that a crash at any moment leaves a whole checkpoint, here or at `previous(path)`.

    Raises CheckpointNotWritten, with everything that was there before intact.
    """
    partial = path.with_suffix(".partial")
    others = {key: value for key, value in snapshot.state.items() if key != "step"}
    metadata = {"step": str(snapshot.step), "state": json.dumps(others)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(snapshot.tensors, partial, metadata=metadata | {"sha256": _digest(snapshot.tensors, metadata)})
        _sync(partial)
        if path.exists():
            path.replace(previous(path))
        partial.replace(path)
        _sync(path.parent)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink()
        raise CheckpointNotWritten(
            f"{path} could not be written at step {snapshot.step} ({error}): the checkpoint before it is intact; "
            "free some space and run the same command again to go on from it"
        ) from error


def read(path: Path) -> Snapshot:
    """Read and verify a checkpoint. Raises BadCheckpoint; also accepts the older layout without a checksum."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        step = int(metadata["step"])
        if set(metadata) != {"step"} and metadata.pop("sha256") != _digest(tensors, metadata):
            raise BadCheckpoint(f"{path} cannot be resumed from (its checksum is wrong): delete it to start again")
        return Snapshot(tensors, {"step": step} | json.loads(metadata.get("state", "{}")))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, BadCheckpoint):
            raise
        raise BadCheckpoint(f"{path} cannot be resumed from ({error}): delete it to start again") from error


def latest(path: Path) -> Snapshot | None:
    """The newest whole checkpoint at `path` or `previous(path)`, None when there is neither.

    A damaged file is set aside, and told on stderr. Raises BadCheckpoint when there is nothing else to go on from.
    """
    fallback = previous(path)
    if not fallback.exists():
        return read(path) if path.exists() else None
    try:
        return read(path)
    except BadCheckpoint as error:
        try:
            snapshot = read(fallback)
        except BadCheckpoint:
            raise error from None
        if path.exists():
            path.replace(path.with_suffix(".damaged.safetensors"))
        print(f"{path} is missing or damaged: falling back on {fallback}, step {snapshot.step}", file=sys.stderr)
        return snapshot


def previous(path: Path) -> Path:
    """Where the checkpoint before the newest one is kept."""
    return path.with_suffix(".previous.safetensors")


def share(snapshot: Snapshot | None, ranks: Ranks) -> Snapshot | None:
    """The first process's snapshot on every process, for only its machine need have the file."""
    if ranks.world == 1:
        return snapshot
    outline = None
    if snapshot is not None:
        shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in snapshot.tensors.items()}
        outline = (snapshot.state, shapes)
    box = [outline]
    dist.broadcast_object_list(box, src=0, device=ranks.device)
    if box[0] is None:
        return None
    state, shapes = box[0]
    tensors = {}
    for name, (shape, dtype) in shapes.items():
        tensor = torch.empty(shape, dtype=dtype) if snapshot is None else snapshot.tensors[name]
        tensor = tensor.to(ranks.device)
        dist.broadcast(tensor, src=0)
        tensors[name] = tensor.cpu()
    return Snapshot(tensors, state)


class Writer:
    """Writes snapshots beside the training, one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save(self, snapshot: Snapshot) -> None:
        """Begin to write; first waits for the write before. Raises CheckpointNotWritten of that one."""
        self.wait()
        self._pending = self._thread.submit(write, self._path, snapshot)

    def check(self) -> None:
        """Raises CheckpointNotWritten when a write has failed meanwhile."""
        if self._pending and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Return when everything is on disk. Raises CheckpointNotWritten."""
        pending, self._pending = self._pending, None
        if pending:
            pending.result()


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 over metadata, and each tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

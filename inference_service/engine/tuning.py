"""Which way to compute a step of some size is the fastest on this machine: measured once, then remembered on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numba
import torch

from inference_service.engine.block_manager import Lease
from inference_service.engine.kernels.jit import cache_folder
from inference_service.engine.kv_pool import KVPool
from inference_service.engine.scheduler import Work
from inference_service.engine.sequence import Sequence as ScheduledSequence
from inference_service.model.config import GPTConfig

Compute = Callable[[Sequence[Work], KVPool], object]
Choice = dict[int, str]

SIZES = (1, 4, 8, 16, 32, 64, 128, 256)  # tokens of a step
_CLEARLY = 0.8  # a less precise way has to take less than this share of the time
_ABANDONED_S = 60.0  # a file that is being written is younger
_FORMAT = 4  # of the file, and of what the kernels do

log = logging.getLogger(__name__)


def chosen(choice: Choice, tokens: int) -> str:
    """The way for a step of so many tokens: that of the next size that was measured."""
    return choice[min((size for size in choice if size >= tokens), default=max(choice))]


def measure(ways: Mapping[str, Compute], config: GPTConfig) -> Choice:
    """The fastest of `ways` for each size up to the context; the first ones are preferred, being more precise."""
    sizes = [size for size in SIZES if size <= config.context_length] or [1]
    pool = _pool(sizes, config)
    choice = {}
    for size in sizes:
        work = _step(size)
        times = {name: _seconds(compute, work, pool) for name, compute in ways.items()}
        best = next(iter(times))
        for name in times:
            if times[name] < times[best] * _CLEARLY:
                best = name
        choice[size] = best
        log.debug("a step of %d tokens: %s", size, {name: f"{seconds * 1e3:.2f} ms" for name, seconds in times.items()})
    return choice


def _use_once(ways: Mapping[str, Compute], choice: Choice, config: GPTConfig) -> None:
    """What is not compiled on this disk yet is compiled here, and not in the first step that somebody waits for."""
    pool = _pool(choice, config)
    for size, name in choice.items():
        ways[name](_step(size), pool)


def _pool(sizes: Iterable[int], config: GPTConfig) -> KVPool:
    """One block that holds the longest step."""
    return KVPool(config, 1, max(sizes), torch.device("cpu"), torch.bfloat16)


def _step(size: int) -> list[Work]:
    trial = ScheduledSequence([0] * size, lease=Lease([0], 0, 0))
    return [Work(trial, 0, trial.tokens, 1)]


def _seconds(compute: Compute, work: Sequence[Work], pool: KVPool) -> float:
    """The best of three runs after a first one."""
    compute(work, pool)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        compute(work, pool)
        times.append(time.perf_counter() - started)
    return min(times)


def remembered(ways: Mapping[str, Compute], config: GPTConfig, folder: Path | None = None) -> Choice:
    """`measure`, unless this machine has measured this shape of model with these versions before."""
    key = {
        "format": _FORMAT,
        "model": config.to_dict(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "versions": [torch.__version__, numba.__version__],
        "ways": list(ways),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = (folder or cache_folder()) / f"kernels-{digest}.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        choice = {int(size): str(name) for size, name in stored["choice"].items()}
        if choice and set(choice.values()) <= set(ways):
            _use_once(ways, choice, config)
            return choice
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # never measured, or a file that something else wrote
    choice = measure(ways, config)
    try:
        _keep(path, json.dumps({"choice": choice} | key, indent=1) + "\n")
    except OSError as error:
        log.debug("the measured choice of kernels is not kept: %s", error)
    return choice


def _keep(path: Path, text: str) -> None:
    """Replace the file as a whole, and sweep up what processes have left that were killed in the middle of this."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob("kernels-*"):
        with contextlib.suppress(FileNotFoundError):  # somebody else was faster
            if left.suffix != ".json" and time.time() - left.stat().st_mtime > _ABANDONED_S:
                left.unlink()
    part = path.with_suffix(f".{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _processor() -> str:
    """Model name and number of processors."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    fields = [line.split(":", 1) for line in lines if ":" in line]
    told = {field.strip(): value.strip() for field, value in fields}
    parts = [told.get(field, "") for field in ("model name", "cpu family", "model")]
    return " ".join([*parts, name, str(os.cpu_count())])

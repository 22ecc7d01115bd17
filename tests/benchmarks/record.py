"""Where the figures of all benchmarks go: one JSON file a run, all of one shape; the pages' tables are made of them.

    {"benchmark", "command", "date", "machine", "versions", "commit", "figures"}

`figures` are the benchmark's own. Figures of before this shape carry "transcribed": where they were copied from.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
PACKAGES = ("torch", "numba", "triton", "transformers", "llama-cpp-python", "xllamacpp", "ctranslate2")
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")

LOOKED_S = 1.0

_load_before: float | None = None


def parser(about: str | None) -> argparse.ArgumentParser:
    """Options of a benchmark, with the one that all of them have. Takes a second to see what else runs."""
    global _load_before
    _load_before = _cores_busy(LOOKED_S)
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON file (default: %(default)s)")
    return made


def need(*prepared: Path) -> None:
    """Ends the benchmark with what to do where one of the `prepared` files and folders is missing."""
    missing = [str(path) for path in prepared if not path.exists()]
    if missing:
        sys.exit(f'not measured: needs {" and ".join(missing)}; docs/performance.md, "Measure it yourself", says how')


def write(benchmark: str, figures: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Keep the figures of a run that ends now as DATE-BENCHMARK-MACHINE.json; prints where. A second run of a day on a
    machine of the same kind replaces the first."""
    now, where = datetime.now(UTC), machine()
    result = {
        "benchmark": benchmark,
        "command": _command(),
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "machine": where,
        "versions": versions(),
        "commit": commit(),
        "figures": figures,
    }
    kind = re.sub(r"[^a-z0-9]+", "-", (where["gpu"] or f"{where['cores']} {where['processor']}").lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{now:%Y-%m-%d}-{benchmark}-{kind}.json"
    path.write_text(json.dumps(_rounded(result), indent=1) + "\n", encoding="utf-8")
    print(path)
    return path


def machine() -> dict[str, Any]:
    """Processor, its instructions that matter here, cores that this process may use, memory in GiB, GPU, and how many
    cores were busy just before the benchmark began."""
    told: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            told[name.strip()] = value.strip()
    family = f" family {told['cpu family']} model {told['model']}" if "cpu family" in told else ""
    flags = set(told.get("flags", "").split())
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    return {
        "processor": told.get("model name", platform.processor() or platform.machine()) + family,
        "features": [feature for feature in FEATURES if feature in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(pages / 2**30),
        "gpu": _gpu(),
        "load_before": _load_before,
        "system": platform.platform(terse=True),
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that compute."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def commit() -> str:
    """Of the code that ran; "-dirty" where it differs from it. COMMIT says it where there is no repository. What
    benchmarks write themselves does not count: results, and the pages that are made of them."""
    with contextlib.suppress(OSError):
        head = _git("rev-parse", "--short=9", "HEAD")
        if head.returncode == 0:
            changed = _git("diff-index", "--quiet", "HEAD", "--", ".", ":!tests/benchmarks/results", ":!docs")
            return head.stdout.strip() + ("-dirty" if changed.returncode else "")
    return os.environ.get("COMMIT", "unknown")


def _git(*command: str) -> subprocess.CompletedProcess[str]:
    root = RESULTS.parents[2]
    return subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=False)


def _cores_busy(seconds: float) -> float | None:
    """How many cores work at anything, this sleeping process aside; None where /proc is missing. The system's own load
    average would still hold the benchmark before."""

    def busy() -> int:
        user, nice, system, _, _, *others = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
        return user + nice + system + sum(others)

    try:
        before = busy()
        time.sleep(seconds)
        return (busy() - before) / os.sysconf("SC_CLK_TCK") / seconds
    except OSError:
        return None


def _command() -> str:
    """What was typed, from the root of the repository."""
    script = f"python -m tests.benchmarks.{Path(sys.argv[0]).stem}"
    options = [str(Path(*Path(one).parts[-2:])) if one.startswith("/") else one for one in sys.argv[1:]]
    if "--results" in options:
        at = options.index("--results")
        del options[at : at + 2]
    return shlex.join([*script.split(), *options])


def _gpu() -> str | None:
    torch = sys.modules.get("torch")  # a benchmark that does not compute with it does not load it for this
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_initialized() else None


def _rounded(value: Any) -> Any:
    """Six digits of every number: no clock here is better. JSON has no word for what is not a number but null."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value

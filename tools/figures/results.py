"""What benchmarks have left in tests/benchmarks/results, newest first, and the line below each table about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "tests" / "benchmarks" / "results"


@dataclass(frozen=True, slots=True)
class Result:
    """A run of a benchmark, as tests/benchmarks/record.py wrote it."""

    path: Path
    told: dict[str, Any]

    @property
    def benchmark(self) -> str:
        return str(self.told["benchmark"])

    @property
    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = self.told["figures"]
        return found

    @property
    def machine(self) -> str:
        """In words, with the load of others where it was seen."""
        machine = self.told["machine"]
        where = machine["gpu"] or f"{machine['cores']} cores of {machine['processor']}"
        load = machine["load_before"]
        return where if load is None else f"{where}, load of others {load:.1f}"

    def caption(self) -> str:
        """Where the figures come from: one sentence in small print."""
        versions = ", ".join(f"{name} {version}" for name, version in self.told["versions"].items() if name == "torch")
        note = f" ({self.told['transcribed']})" if "transcribed" in self.told else ""
        about = f"{self.told['date']}, {self.machine}, {versions}, commit {self.told['commit']}{note}"
        return f"`{self.told['command']}`: {about}."


def every() -> list[Result]:
    """All runs, the newest first."""
    found = [Result(path, json.loads(path.read_text(encoding="utf-8"))) for path in RESULTS.glob("*.json")]
    return sorted(found, key=lambda result: (result.told["date"], result.path.name), reverse=True)


def newest() -> dict[str, Result]:
    """The newest run of each benchmark. Of two runs of a day, the one with a time is newer than a copied one."""
    return {result.benchmark: result for result in reversed(every())}

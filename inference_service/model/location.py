"""Where model directories are found. Free of torch, so that a wrong name is told at once."""

from __future__ import annotations

from pathlib import Path

BUNDLED = Path(__file__).parent.parent / "bundled"


class BadModel(ValueError):
    """A model directory that cannot be served; the message says the path and what is wrong."""


def resolve(name_or_path: str) -> Path:
    """The directory of a bundled model's name, or of a path. Raises BadModel."""
    path = Path(name_or_path)
    if not path.is_dir() and (BUNDLED / name_or_path).is_dir():
        path = BUNDLED / name_or_path
    if not path.is_dir():
        bundled = ", ".join(sorted(p.name for p in BUNDLED.iterdir() if p.is_dir()))
        raise BadModel(f"no model {name_or_path!r}: give a model directory or one of {bundled}")
    return path

"""Where a model directory may be written, and how it takes the place of an older one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from inference_service.model import directory
from inference_service.model.location import BadModel


class BadOutput(ValueError):
    """A place that must not be written to; the message says why and what to do."""


def check_output(out: Path) -> None:
    """Raises BadOutput unless `out` is free, or a model directory that may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise BadOutput(f"{out} is a file: give another --out")
    try:
        directory.load(out)
    except BadModel as error:
        raise BadOutput(
            f"{out} holds something else than a whole model directory: move it away or give another --out"
        ) from error
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    foreign = sorted({path.name for path in out.iterdir()} - {"manifest.json", *manifest})
    if foreign:
        raise BadOutput(f"{out / foreign[0]} is no part of the model there: move it away or give another --out")


def replace_directory(staging: Path, out: Path) -> None:
    """Put `staging` in the place of `out`, when it is on disk; a crash in between leaves the old one beside it."""
    for path in (*staging.iterdir(), staging):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    before = out.with_name(f".{out.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    if out.exists():
        out.replace(before)
    staging.replace(out)
    shutil.rmtree(before, ignore_errors=True)

"""Any model directory, ours or one in Hugging Face layout."""

from __future__ import annotations

import json
from pathlib import Path

from inference_service.model import directory, huggingface
from inference_service.model.directory import LoadedModel


def load(path: Path) -> LoadedModel:
    """Read and check it. Raises BadModel."""
    return huggingface.load(path) if is_huggingface(path) else directory.load(path)


def is_huggingface(path: Path) -> bool:
    """Whether `path` has a config.json that names a Hugging Face model type."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "model_type" in config

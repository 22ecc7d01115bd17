"""Any model directory, ours or one in Hugging Face layout."""

from __future__ import annotations

import json
from pathlib import Path

from inference_service.model import directory, huggingface
from inference_service.model.directory import LoadedModel
from inference_service.model.location import BadModel


def load(path: Path) -> LoadedModel:
    """Read and check it. Raises BadModel."""
    if is_huggingface(path):
        return huggingface.load(path)
    if not (path / "manifest.json").exists():
        raise BadModel(
            f"{path} is no complete model directory: manifest.json is missing, and there is no config.json that names "
            "the model_type of a Hugging Face checkpoint"
        )
    return directory.load(path)


def is_huggingface(path: Path) -> bool:
    """Whether `path` has a config.json that names a Hugging Face model type."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "model_type" in config

"""Checkpoints on disk in Hugging Face layout: config.json, safetensors, tokenizer files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from inference_service.model.directory import LoadedModel
from inference_service.model.huggingface.architecture import read_architecture
from inference_service.model.huggingface.tokenizer import FILES, read_tokenizer
from inference_service.model.huggingface.weights import read_weights, weight_files
from inference_service.model.location import BadModel


def load(path: Path) -> LoadedModel:
    """Read a checkpoint. All its weights are floats, in the types they are stored in, and mapped from the files.

    Raises BadModel on a missing or damaged file, and on anything that we could not compute or tokenize exactly.
    """
    try:
        config = dict(json.loads((path / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadModel(f"{path / 'config.json'} cannot be read ({error}): copy it again") from error
    architecture = read_architecture(path, config)
    tokenizer = read_tokenizer(path, config)
    if tokenizer.vocab_size > architecture.vocab_size:
        raise BadModel(
            f"{path}: the tokenizer has {tokenizer.vocab_size} tokens, the model only {architecture.vocab_size}"
        )
    floats = read_weights(path, config["model_type"], architecture)
    version = _digest([path / name for name in ("config.json", *FILES)] + weight_files(path))
    return LoadedModel(path, path.resolve().name, version, architecture, tokenizer, int8={}, floats=floats, golden=[])


def _digest(files: Iterable[Path]) -> str:
    """A short digest of the files that are there, by name and content."""
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            with file.open("rb") as opened:
                digest.update(f"{file.name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:12]

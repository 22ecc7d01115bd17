"""Model directories: config.json, model.safetensors, tokenizer.tiktoken, golden.json, card.md, manifest.json."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from inference_service.model.gpt import GPT, GPTConfig
from inference_service.model.location import BadModel
from inference_service.model.quantize import dequantize_rows, quantize_rows
from inference_service.model.tokenizer import Tokenizer

FORMAT = 1
_FILES = ("config.json", "model.safetensors", "tokenizer.tiktoken", "golden.json", "card.md")


@dataclass(frozen=True)
class LoadedModel:
    """A checked model directory in memory. `version` is a short digest of its files.

    `int8` holds (weight, scale) by parameter name for the quantized matrices.
    """

    path: Path
    name: str
    version: str
    config: GPTConfig
    tokenizer: Tokenizer
    int8: dict[str, tuple[Tensor, Tensor]]
    golden: list[dict[str, Any]]

    def build_float(self) -> GPT:
        """The model with all weights as float32, on the CPU, in evaluation mode."""
        model = GPT(self.config)
        model.load_state_dict({name: dequantize_rows(*pair) for name, pair in self.int8.items()})
        return model.eval().requires_grad_(False)


def write(
    path: Path,
    model: GPT,
    tokenizer: Tokenizer,
    golden: list[dict[str, Any]],
    card: str,
    extra: dict[str, Any],
) -> None:
    """Quantize `model` and write a complete directory; `extra` is training provenance for config.json."""
    path.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, parameter in model.state_dict().items():
        weight, scale = quantize_rows(parameter)
        tensors[name], tensors[f"{name}.scale"] = weight, scale
    save_file(tensors, path / "model.safetensors")
    tokenizer.save(path / "tokenizer.tiktoken")
    config = {
        "format": FORMAT,
        "architecture": model.config.to_dict(),
        "quantization": "int8 per output channel, symmetric",
        "fim_format": "spm2",
        "context_length": model.config.context_length,
        "tokenizer_sha256": tokenizer.digest,
        "training": extra,
    }
    (path / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (path / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    (path / "card.md").write_text(card)
    write_manifest(path)


def write_manifest(path: Path) -> None:
    """SHA-256 of every file beside it."""
    names = sorted(file.name for file in path.iterdir() if file.name != "manifest.json")
    (path / "manifest.json").write_text(json.dumps({name: _sha256(path / name) for name in names}, indent=1) + "\n")


def load(path: Path) -> LoadedModel:
    """Read and verify a model directory. Raises BadModel on a missing, damaged or foreign file."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        for name in sorted({*_FILES, *manifest}):
            if _sha256(path / name) != manifest[name]:
                raise BadModel(
                    f"{path / name} is damaged or half copied (its SHA-256 is not the manifest's): copy it again"
                )
        config = json.loads((path / "config.json").read_text())
        if config["format"] != FORMAT:
            raise BadModel(f"{path} has format {config['format']}, this version reads {FORMAT}")
        architecture = GPTConfig(**config["architecture"])
        tokenizer = Tokenizer.load(path / "tokenizer.tiktoken")
        if tokenizer.digest != config["tokenizer_sha256"]:
            raise BadModel(f"{path}: the tokenizer is not the one that the model was trained with")
        tensors = load_file(path / "model.safetensors")
        int8 = {name: (tensors[name], tensors[f"{name}.scale"]) for name in tensors if not name.endswith(".scale")}
        _check_shapes(path, architecture, int8)
        golden = json.loads((path / "golden.json").read_text())
    except FileNotFoundError as error:
        raise BadModel(f"{error.filename} is missing: this is no complete model directory") from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, BadModel):
            raise
        raise BadModel(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    version = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:12]
    return LoadedModel(path, path.resolve().name, version, architecture, tokenizer, int8, golden)


def _check_shapes(path: Path, config: GPTConfig, int8: dict[str, tuple[Tensor, Tensor]]) -> None:
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in GPT(config).state_dict().items()}
    found = {name: tuple(weight.shape) for name, (weight, _) in int8.items()}
    if expected != found:
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise BadModel(f"{path}: weights do not fit the configuration, first at {differing[0]}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

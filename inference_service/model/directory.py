"""Model directories: config.json, model.safetensors, tokenizer.tiktoken, golden.json, card.md, manifest.json.

Matrices are stored as int8 rows (`name` int8, `name.scale` float32) or int4 groups (`name` uint8, two weights a byte,
`name.scale` float16); gains, biases and position tables as float32.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from inference_service.model.gpt import GPT, GPTConfig
from inference_service.model.int4 import dequantize_groups, pack, unpack
from inference_service.model.location import BadModel
from inference_service.model.quantize import dequantize_rows, quantize_rows
from inference_service.model.tokenizer import Tokenizer

FORMAT = 2
_READABLE = (1, 2)  # 1 had nothing but int8 rows
_FILES = ("config.json", "model.safetensors", "tokenizer.tiktoken", "golden.json", "card.md")


@dataclass(frozen=True)
class LoadedModel:
    """A checked model directory in memory. `version` is a short digest of its files.

    By parameter name: `int8` holds (weight, scale) of the quantized matrices, int4 ones widened to int8 rows;
    `floats` holds everything else.
    """

    path: Path
    name: str
    version: str
    config: GPTConfig
    tokenizer: Tokenizer
    int8: dict[str, tuple[Tensor, Tensor]]
    floats: dict[str, Tensor]
    golden: list[dict[str, Any]]

    def build_float(self) -> GPT:
        """The model with all weights as float32, on the CPU, in evaluation mode."""
        model = GPT(self.config)
        matrices = {name: dequantize_rows(*pair) for name, pair in self.int8.items()}
        model.load_state_dict(matrices | self.floats)  # which widens types while it copies
        return model.eval().requires_grad_(False)


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a projection or an embedding, which are quantized."""
    return parameter.dim() == 2 and not name.startswith("positions")


def write(
    path: Path,
    model: GPT,
    tokenizer: Tokenizer,
    golden: list[dict[str, Any]],
    card: str,
    extra: dict[str, Any],
    quantized: Mapping[str, tuple[Tensor, Tensor]] | None = None,
) -> None:
    """Quantize `model` and write a complete directory; `extra` is training provenance for config.json.

    `quantized` gives (codes, scale) of matrices that are rounded already: int8 rows with scales (out,), or int4 groups
    with scales (out, groups). The others become int8 rows.
    """
    path.mkdir(parents=True, exist_ok=True)
    quantized = quantized or {}
    tensors = {}
    for name, parameter in model.state_dict().items():
        if name in quantized:
            codes, scale = quantized[name]
            tensors[name], tensors[f"{name}.scale"] = codes if scale.dim() == 1 else pack(codes), scale
        elif is_matrix(name, parameter):
            tensors[name], tensors[f"{name}.scale"] = quantize_rows(parameter)
        else:
            tensors[name] = parameter.detach().float()
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, path / "model.safetensors")
    (path / "model.safetensors").chmod(0o644)  # the library lets only its owner read it, and services run as another
    tokenizer.save(path / "tokenizer.tiktoken")
    config = {
        "format": FORMAT,
        "architecture": model.config.to_dict(),
        "quantization": _describe(quantized),
        "fim_format": tokenizer.fim.name,
        "context_length": model.config.context_length,
        "tokenizer_sha256": tokenizer.digest,
        "training": extra,
    }
    (path / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (path / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    (path / "card.md").write_text(card)
    write_manifest(path)


def _describe(quantized: Mapping[str, tuple[Tensor, Tensor]]) -> str:
    for codes, scale in quantized.values():
        if scale.dim() == 2:
            return f"int4 in groups of {codes.shape[1] // scale.shape[1]}, symmetric"
    return "int8 per output channel, symmetric"


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
        if config["format"] not in _READABLE:
            raise BadModel(f"{path} has format {config['format']}, this version reads 1 to {FORMAT}")
        architecture = GPTConfig(**config["architecture"])
        tokenizer = Tokenizer.load(path / "tokenizer.tiktoken")
        if tokenizer.digest != config["tokenizer_sha256"]:
            raise BadModel(f"{path}: the tokenizer is not the one that the model was trained with")
        int8, floats = _widen(path, load_file(path / "model.safetensors"))
        _check_shapes(path, architecture, {name: weight for name, (weight, _) in int8.items()} | floats)
        golden = json.loads((path / "golden.json").read_text())
    except FileNotFoundError as error:
        raise BadModel(f"{error.filename} is missing: this is no complete model directory") from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        if isinstance(error, BadModel):
            raise
        raise BadModel(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    version = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:12]
    return LoadedModel(path, path.resolve().name, version, architecture, tokenizer, int8, floats, golden)


def _widen(path: Path, stored: dict[str, Tensor]) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Tensor]]:
    """What model.safetensors holds -> int8 rows, and everything that is not quantized."""
    int8, floats = {}, {}
    for name, tensor in stored.items():
        if name.endswith(".scale"):
            continue
        if tensor.is_floating_point():
            floats[name] = tensor
            continue
        scale = stored.get(f"{name}.scale")
        if tensor.dtype == torch.int8 and scale is not None and scale.shape == tensor.shape[:1]:
            int8[name] = tensor, scale
        elif tensor.dtype == torch.uint8 and scale is not None and _are_groups(tensor, scale):
            int8[name] = quantize_rows(dequantize_groups(unpack(tensor), scale))
        else:
            raise BadModel(f"{path}: weight {name} is neither int8 rows nor int4 groups with their scales")
    return int8, floats


def _are_groups(packed: Tensor, scale: Tensor) -> bool:
    same_rows = packed.dim() == scale.dim() == 2 and len(packed) == len(scale)
    return same_rows and scale.shape[1] > 0 and packed.shape[1] * 2 % scale.shape[1] == 0


def _check_shapes(path: Path, config: GPTConfig, weights: dict[str, Tensor]) -> None:
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in GPT(config).state_dict().items()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    if expected != found:
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise BadModel(f"{path}: weights do not fit the configuration, first at {differing[0]}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The safetensors of a checkpoint directory -> tensors under our names, mapped into memory and not copied."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from inference_service.model.config import GPTConfig
from inference_service.model.gpt import GPT
from inference_service.model.location import BadModel

_HEAD = "lm_head.weight"
_OUR_NAME = re.compile(r"(?:blocks\.(?P<layer>\d+)\.)?(?P<module>.+?)\.(?:parts\.(?P<part>\d)|(?P<leaf>weight|bias))")
_CONSTANTS = re.compile(r"attn\.(masked_)?bias$|rotary_emb\.inv_freq$")  # old checkpoints carry them along


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a family keeps its modules: by our names, theirs. Several of theirs are the parts of one of ours."""

    prefix: str
    blocks: str
    modules: Mapping[str, tuple[str, ...]]


_GPT2 = Layout(
    "transformer.",
    "h",
    {
        "embedding": ("wte",),
        "positions": ("wpe",),
        "attention_norm": ("ln_1",),
        "attention.qkv": ("attn.c_attn",),
        "attention.out": ("attn.c_proj",),
        "mlp_norm": ("ln_2",),
        "mlp.up": ("mlp.c_fc",),
        "mlp.down": ("mlp.c_proj",),
        "final_norm": ("ln_f",),
    },
)
_LLAMA = Layout(
    "model.",
    "layers",
    {
        "embedding": ("embed_tokens",),
        "attention_norm": ("input_layernorm",),
        "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attention.out": ("self_attn.o_proj",),
        "mlp_norm": ("post_attention_layernorm",),
        "mlp.up": ("mlp.gate_proj", "mlp.up_proj"),
        "mlp.down": ("mlp.down_proj",),
        "final_norm": ("norm",),
    },
)
_STARCODER2 = Layout("model.", "layers", {**_LLAMA.modules, "mlp.up": ("mlp.c_fc",), "mlp.down": ("mlp.c_proj",)})
_LAYOUTS = {"gpt2": _GPT2, "gpt_bigcode": _GPT2, "llama": _LLAMA, "qwen2": _LLAMA, "starcoder2": _STARCODER2}


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a checkpoint directory. Raises BadModel when there are none."""
    index = path / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise BadModel(f"{index} is damaged: copy it again") from error
        missing = sorted(name for name in names if not (path / name).is_file())
        if missing:
            raise BadModel(f"{path / missing[0]} is missing: copy the whole checkpoint")
        return [path / name for name in sorted(names)]
    if (path / "model.safetensors").is_file():
        return [path / "model.safetensors"]
    pickled = sorted(file.name for file in path.glob("*.bin"))
    if pickled:
        raise BadModel(
            f"{path} holds pickled weights ({pickled[0]}), which could run code when they are read: convert them with "
            "transformers, AutoModelForCausalLM.from_pretrained(PATH).save_pretrained(NEW_PATH)"
        )
    raise BadModel(f"{path / 'model.safetensors'} is missing: this is no complete checkpoint")


def read_weights(path: Path, family: str, config: GPTConfig) -> dict[str, Tensor]:
    """All parameters by our names, in the types they are stored in.

    Raises BadModel on a missing, damaged or quantized file, and on tensors that do not make up exactly the model of
    `config`.
    """
    stored = _open(path)
    layout = _LAYOUTS[family]
    # models that were saved without their head have no prefix
    first = f"{layout.modules['embedding'][0]}.weight"
    prefix = "" if first in stored else layout.prefix
    taken = set()

    def take(name: str) -> Tensor:
        if name not in stored:
            raise BadModel(f"{path} lacks the weight {name}")
        taken.add(name)
        return stored[name]

    def read(name: str) -> Tensor:
        if name == "unembedding.weight":
            return take(_HEAD)
        match = _OUR_NAME.fullmatch(name)
        assert match, name
        block = f"{layout.blocks}.{match['layer']}." if match["layer"] else ""
        sources = [f"{prefix}{block}{source}" for source in layout.modules[match["module"]]]
        if len(sources) > 1:  # each part is stored for itself
            if match["part"]:
                return take(f"{sources[int(match['part'])]}.weight")
            return torch.cat([take(f"{source}.bias") for source in sources])
        tensor = take(f"{sources[0]}.{match['leaf'] or 'weight'}")
        if family == "gpt2" and block and tensor.dim() == 2:
            tensor = tensor.T  # GPT-2's Conv1D has its inputs first
        if match["module"] == "attention.qkv":
            if family == "gpt_bigcode" and config.n_kv_head > 1:  # query, key and value of one head after the other
                tensor = tensor.unflatten(0, (config.n_head, 3, config.head_dim)).transpose(0, 1).flatten(0, 2)
            if match["part"]:
                kv_width = config.n_kv_head * config.head_dim
                return tensor.split([len(tensor) - 2 * kv_width, kv_width, kv_width])[int(match["part"])]
        return tensor

    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in GPT(config).state_dict().items()}
    try:
        weights = {name: read(name) for name in expected}
    except RuntimeError as error:  # a fused matrix that cannot be cut as config.json says
        raise BadModel(f"{path}: weights do not fit config.json: {error}") from error
    for name, tensor in weights.items():
        if tensor.shape != expected[name]:
            raise BadModel(
                f"{path}: weights do not fit config.json, first {name}: {tuple(tensor.shape)} are there, "
                f"{tuple(expected[name])} are needed"
            )
    if config.tied_head and _HEAD in stored and not torch.equal(take(_HEAD), weights["embedding.weight"]):
        raise BadModel(f"{path}: {_HEAD} is not the embedding, but tie_word_embeddings in config.json says so")
    unknown = sorted(name for name in stored.keys() - taken if not _CONSTANTS.search(name))
    if unknown:
        raise BadModel(f"{path} holds the weight {unknown[0]}, for which its config.json has no place")
    return weights


def _open(path: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for file in weight_files(path):
        try:
            with safe_open(file, framework="pt") as opened:
                tensors |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
        except (OSError, SafetensorError) as error:
            raise BadModel(f"{file} is damaged or half copied ({error}): copy it again") from error
    for name, tensor in tensors.items():
        if (not tensor.is_floating_point() or tensor.itemsize < 2) and not _CONSTANTS.search(name):
            raise BadModel(f"{path}: weight {name} is quantized ({tensor.dtype}): give the original checkpoint")
    return tensors

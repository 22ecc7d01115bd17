"""The layout of Hugging Face: config.json, model.safetensors, tokenizer.json, README.md.

GPT-2's shape becomes a plain `GPT2LMHeadModel`. For our own architecture `transformers` has no class; there the
layout is the same, with our parameter names and every field of the architecture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from inference_service.model import huggingface
from inference_service.model.config import GPTConfig
from inference_service.model.directory import LoadedModel
from inference_service.model.gpt import GPT
from inference_service.model.tokenizer import END_OF_TEXT
from training.export import gpt2_shape
from training.export.checks import largest_difference, written
from training.export.tokenizer_json import document, special_tokens

_OWN_README = """# {name}
Weights and tokenizer of a Midfill model in the layout of Hugging Face. **The library transformers cannot load it**: of
its classes Midfill writes only `GPT2LMHeadModel`, and this model has {difference}. `config.json` holds every field of
Midfill's `GPTConfig`, `model.safetensors` the parameters under Midfill's names, and Midfill's
`inference_service/model/gpt.py` defines what they compute. `tokenizer.json` works as it is:
`tokenizers.Tokenizer.from_file("tokenizer.json")`.
"""
_GPT2_README = """# {name}
A Midfill model of GPT-2's shape: `transformers.GPT2LMHeadModel.from_pretrained(PATH)` loads it.
"""


def export_huggingface(loaded: LoadedModel, out: Path) -> str:
    """Write the folder `out`, read it again and compare. Returns what to tell. Raises BadExport."""
    model = loaded.build_float()
    other = gpt2_shape.difference(loaded.config)
    with written(out) as path:
        path.mkdir()
        tensors = model.state_dict() if other else _with_inputs_first(gpt2_shape.tensors(model))
        weights = path / "model.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, weights, metadata={"format": "pt"})
        weights.chmod(0o644)  # the library lets only its owner read it
        end = loaded.tokenizer.sentinel(END_OF_TEXT)
        settings = _own_config(loaded.config) if other else _gpt2_config(loaded.config)
        _write_json(path / "config.json", settings | {"dtype": "float32", "bos_token_id": end, "eos_token_id": end})
        _write_json(path / "tokenizer_config.json", _tokenizer_config(loaded))
        (path / "tokenizer.json").write_text(document(loaded.tokenizer), encoding="utf-8")
        (path / "README.md").write_text(_readme(loaded, other), encoding="utf-8")
        worst = largest_difference(model, _read_own(path) if other else huggingface.load(path).build_float())
    kind = "Midfill's own layout, which transformers cannot load" if other else "GPT2LMHeadModel"
    return f"{kind}; read again, logits differ from ours by at most {worst:.2g}"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _readme(loaded: LoadedModel, other: str | None) -> str:
    """What the folder is, then the model's card."""
    about = (_OWN_README if other else _GPT2_README).format(name=loaded.name, difference=other)
    card = loaded.path / "card.md"
    return f"{about}\n{card.read_text(encoding='utf-8')}" if card.is_file() else about


def _tokenizer_config(loaded: LoadedModel) -> dict[str, Any]:
    end = loaded.tokenizer.sentinel(END_OF_TEXT)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": next(name for name, token in special_tokens(loaded.tokenizer).items() if token == end),
        "model_max_length": loaded.config.context_length,
        "clean_up_tokenization_spaces": False,
    }


def _with_inputs_first(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """GPT-2's Conv1D stores the matrices of the blocks as (in, out)."""
    return {name: tensor.T if ".h." in name and tensor.dim() == 2 else tensor for name, tensor in tensors.items()}


def _gpt2_config(config: GPTConfig) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_embd": config.d_model,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": config.d_ff,
        "activation_function": gpt2_shape.ACTIVATIONS[config.activation],
        "layer_norm_epsilon": config.norm_eps,
        "tie_word_embeddings": config.tied_head,
    }


def _own_config(config: GPTConfig) -> dict[str, Any]:
    about = "the fields of Midfill's GPTConfig; transformers has no such class, see README.md"
    names = {"architectures": ["MidfillForCausalLM"], "model_type": "midfill", "about": about}
    return names | config.to_dict()


def _read_own(path: Path) -> GPT:
    settings = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config = GPTConfig(**{name: settings[name] for name in GPTConfig.__dataclass_fields__})
    model = GPT(config)
    model.load_state_dict(load_file(path / "model.safetensors"))
    return model.eval()

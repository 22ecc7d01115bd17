"""The one shape that both `transformers` and llama.cpp have a class for: GPT-2 (Radford et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from inference_service.model.config import GPTConfig
from inference_service.model.gpt import GPT

_SHAPE = {
    "positions": "learned",
    "norm": "layer",
    "norm_affine": True,
    "embedding_norm": False,
    "bigram_rows": 0,
    "qk_norm": False,
    "qkv_bias": True,
    "out_bias": True,
    "mlp_bias": True,
    "logit_softcap": 0.0,
}
ACTIVATIONS = {"gelu_tanh": "gelu_new", "gelu": "gelu"}  # ours -> transformers'
_OUTSIDE = {"embedding": "wte", "positions": "wpe", "final_norm": "ln_f"}
_INSIDE = {
    "attention_norm": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.out": "attn.c_proj",
    "mlp_norm": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}


def difference(config: GPTConfig) -> str | None:
    """The first setting that GPT-2 does not have, as "name value", None for its shape."""
    for name, value in _SHAPE.items():
        if getattr(config, name) != value:
            return f"{name} {getattr(config, name)}"
    if config.activation not in ACTIVATIONS:
        return f"activation {config.activation}"
    if config.n_kv_head != config.n_head:
        return f"n_kv_head {config.n_kv_head}"
    return f"head_dim {config.head_dim}" if config.head_dim * config.n_head != config.d_model else None


def tensors(model: GPT) -> dict[str, Tensor]:
    """The parameters by their names in `GPT2LMHeadModel`, matrices as (out, in); a tied head only as "wte"."""
    found: dict[str, Tensor] = {}
    for name, module in _OUTSIDE.items():
        _add(found, f"transformer.{module}", model.get_submodule(name))
    for index, block in enumerate(model.blocks):
        for name, module in _INSIDE.items():
            _add(found, f"transformer.h.{index}.{module}", block.get_submodule(name))
    if not model.config.tied_head:
        found["lm_head.weight"] = model.head_weight.detach()
    return found


def _add(found: dict[str, Tensor], name: str, module: torch.nn.Module) -> None:
    parameters = dict(module.named_parameters())
    parts = [tensor.detach() for key, tensor in sorted(parameters.items()) if key.startswith("parts.")]
    found[f"{name}.weight"] = torch.cat(parts) if parts else parameters["weight"].detach()
    if "bias" in parameters:
        found[f"{name}.bias"] = parameters["bias"].detach()

"""config.json of the families that we read -> GPTConfig. What we cannot compute exactly is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inference_service.model.config import Activation, GPTConfig
from inference_service.model.location import BadModel

Config = dict[str, Any]

_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
# Settings that change what a model computes, with the only value that we have code for; each is its default.
_EXPECTED: dict[str, dict[str, Any]] = {
    "gpt2": {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
    "gpt_bigcode": {"scale_attn_weights": True, "add_cross_attention": False},
    "llama": {"hidden_act": "silu"},
    "qwen2": {"hidden_act": "silu"},
    "starcoder2": {},
}
SUPPORTED = tuple(_EXPECTED)


def read_architecture(path: Path, config: Config) -> GPTConfig:
    """The architecture of the checkpoint directory `path`, whose config.json holds `config`.

    Raises BadModel on another family, or on a setting of these families that we do not support.
    """
    family = config.get("model_type")
    if family not in SUPPORTED:
        raise BadModel(f"{path} is a {family!r} model; supported are {', '.join(SUPPORTED)}")
    if "quantization_config" in config:
        raise BadModel(f"{path} is quantized already: give the original checkpoint, serving quantizes by itself")
    for key, expected in _EXPECTED[family].items():
        if config.get(key, expected) != expected:
            raise BadModel(f"{path}: {key} {config[key]!r} in config.json is not supported, only {expected!r} is")
    try:
        if family in ("gpt2", "gpt_bigcode"):
            return _gpt2(path, config)
        return _llama(path, config)
    except KeyError as error:
        raise BadModel(f"{path}: config.json has no {error}") from error
    except (ValueError, TypeError) as error:
        if isinstance(error, BadModel):
            raise
        raise BadModel(f"{path}: config.json describes no model that can be built: {error}") from error


def _gpt2(path: Path, config: Config) -> GPTConfig:
    """Learned positions, LayerNorm, biases everywhere; GPT-BigCode shares one key/value head."""
    n_head = config["n_head"]
    multi_query = config["model_type"] == "gpt_bigcode" and config.get("multi_query", True)
    return GPTConfig(
        vocab_size=config["vocab_size"],
        n_layer=config["n_layer"],
        n_head=n_head,
        n_kv_head=1 if multi_query else n_head,
        d_model=config["n_embd"],
        d_ff=config.get("n_inner") or 4 * config["n_embd"],
        context_length=config["n_positions"],
        positions="learned",
        norm="layer",
        norm_eps=config.get("layer_norm_epsilon", 1e-5),
        activation=_activation(path, config, "activation_function"),
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        tied_head=config.get("tie_word_embeddings", True),
        **_PLAIN_DECODER,
    )


def _llama(path: Path, config: Config) -> GPTConfig:
    """Rotary positions; Llama and Qwen2 with RMSNorm and SwiGLU, StarCoder2 with LayerNorm and GELU."""
    family = config["model_type"]
    starcoder2 = family == "starcoder2"
    bias = config.get("use_bias", True) if starcoder2 else config.get("attention_bias", False)
    return GPTConfig(
        vocab_size=config["vocab_size"],
        n_layer=config["num_hidden_layers"],
        n_head=config["num_attention_heads"],
        n_kv_head=config.get("num_key_value_heads") or config["num_attention_heads"],
        d_model=config["hidden_size"],
        d_ff=config["intermediate_size"],
        # up to a sliding window's width every token sees all others, as here
        context_length=min(config["max_position_embeddings"], _sliding_window(config)),
        head_dim=config.get("head_dim") or 0,
        norm="layer" if starcoder2 else "rms",
        norm_eps=config.get("norm_epsilon", 1e-5) if starcoder2 else config.get("rms_norm_eps", 1e-6),
        activation=_activation(path, config, "hidden_act") if starcoder2 else "swiglu",
        qkv_bias=True if family == "qwen2" else bias,
        out_bias=False if family == "qwen2" else bias,
        mlp_bias=bias if starcoder2 else family == "llama" and config.get("mlp_bias", False),
        tied_head=config.get("tie_word_embeddings", starcoder2),
        **_rope(path, config),
        **_PLAIN_DECODER,
    )


_PLAIN_DECODER: dict[str, Any] = {
    "norm_affine": True,
    "embedding_norm": False,
    "qk_norm": False,
    "logit_softcap": 0.0,
}


def _activation(path: Path, config: Config, key: str) -> Activation:
    name = config.get(key, "gelu_pytorch_tanh")
    if name not in _ACTIVATIONS:
        raise BadModel(f"{path}: {key} {name!r} in config.json is not supported, only {', '.join(_ACTIVATIONS)} are")
    return _ACTIVATIONS[name]


def _sliding_window(config: Config) -> int:
    if config["model_type"] == "qwen2" and not config.get("use_sliding_window", False):
        return int(config["max_position_embeddings"])
    return int(config.get("sliding_window") or config["max_position_embeddings"])


def _rope(path: Path, config: Config) -> dict[str, Any]:
    """Rotary settings, from `rope_parameters` or the older `rope_theta` and `rope_scaling`."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    share = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if kind not in ("default", "linear", "llama3"):
        raise BadModel(f"{path}: rotary scaling {kind!r} is not supported, only linear and llama3 are")
    if share != 1.0:
        raise BadModel(f"{path}: partial_rotary_factor {share} is not supported, only 1.0 is")
    settings = {"rope_base": float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)}
    if kind != "default":
        settings["rope_factor"] = float(rope["factor"])
    if kind == "llama3":
        settings["rope_low_freq"] = float(rope["low_freq_factor"])
        settings["rope_high_freq"] = float(rope["high_freq_factor"])
        settings["rope_original_context"] = rope["original_max_position_embeddings"]
    return settings

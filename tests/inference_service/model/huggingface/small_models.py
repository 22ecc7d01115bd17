"""Small random checkpoints of every family, written by `transformers` itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import GPT2Config, GPTBigCodeConfig, LlamaConfig, Qwen2Config, Starcoder2Config

from tests.inference_service.model.huggingface.small_tokenizers import build

CONTEXT = 512
ENDS = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<｜end▁of▁sentence｜>")
_GPT2 = {"n_positions": CONTEXT, "n_embd": 48, "n_layer": 2, "n_head": 4}
_LLAMA = {
    "max_position_embeddings": CONTEXT,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_LINEAR = {"rope_type": "linear", "rope_theta": 1000.0, "factor": 4.0}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
# name: (configuration, its settings, tokenizer)
FAMILIES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "gpt2": (GPT2Config, _GPT2, "gpt2"),
    "gpt2-exact-gelu": (GPT2Config, _GPT2 | {"activation_function": "gelu", "n_inner": 100}, "gpt2"),
    "starcoder": (GPTBigCodeConfig, _GPT2, "starcoder"),
    "bigcode-multi-head": (GPTBigCodeConfig, _GPT2 | {"multi_query": False}, "starcoder"),
    "starcoder2": (Starcoder2Config, _LLAMA | {"sliding_window": 4096}, "starcoder2"),
    "starcoder2-no-bias": (Starcoder2Config, _LLAMA | {"use_bias": False, "tie_word_embeddings": False}, "starcoder2"),
    "deepseek-coder": (LlamaConfig, _LLAMA | {"rope_parameters": _LINEAR}, "deepseek"),
    "llama3": (LlamaConfig, _LLAMA | {"rope_parameters": _LLAMA3}, "llama3"),
    "smollm": (LlamaConfig, _LLAMA | {"tie_word_embeddings": True, "num_key_value_heads": 1}, "smollm"),
    "mellum": (LlamaConfig, _LLAMA | {"head_dim": 16, "num_key_value_heads": 4}, "mellum"),
    "codellama": (LlamaConfig, _LLAMA | {"attention_bias": True, "mlp_bias": True}, "codellama"),
    "qwen2": (Qwen2Config, _LLAMA | {"rms_norm_eps": 1e-5}, "qwen2"),
    "qwen2-tied": (Qwen2Config, _LLAMA | {"tie_word_embeddings": True}, "qwen2"),
}


def random_model(family: str, **changes: Any) -> transformers.PreTrainedModel:
    """A model whose gains and biases are all different, and whose greedy text does not only repeat itself."""
    kind, settings, tokenizer = FAMILIES[family]
    end = next(token["id"] for token in build(tokenizer)["added_tokens"] if token["content"] in ENDS)
    tokens = {"vocab_size": 712, "bos_token_id": None, "eos_token_id": end, "pad_token_id": None}
    config = kind(**tokens | {"attn_implementation": "eager"} | settings | changes)
    model = transformers.AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.normal_(0.0 if name.endswith("bias") else 1.0, 0.3, generator=generator)
            else:
                in_block = ".layers." in name or ".h." in name
                parameter.normal_(0.0, 0.3 if in_block else 0.1, generator=generator)
    return model.eval()


def save(model: transformers.PreTrainedModel, family: str, path: Path, **how: Any) -> Path:
    """Write the checkpoint with the family's tokenizer."""
    model.save_pretrained(path, **how)
    (path / "tokenizer.json").write_text(json.dumps(build(FAMILIES[family][2])), encoding="utf-8")
    return path

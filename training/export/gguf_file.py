"""GGUF for llama.cpp, of the shapes and tokenizers that it has."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from inference_service.model.directory import LoadedModel
from inference_service.model.huggingface.split import GPT2_STEPS, split_pattern
from inference_service.model.tokenizer import END_OF_TEXT, Tokenizer
from training.export import gpt2_shape
from training.export.checks import BadExport, written
from training.export.tokenizer_json import merges, printable, special_tokens

_ARCHITECTURE = gguf.MODEL_ARCH.GPT2


def export_gguf(loaded: LoadedModel, out: Path) -> str:
    """Write a GGUF file in float32 and read it again. Returns what to tell.

    Raises BadExport when llama.cpp could not run the model, or would split text otherwise than in training.
    """
    other = gpt2_shape.difference(loaded.config)
    if not other and loaded.config.activation != "gelu_tanh":
        other = f"activation {loaded.config.activation}"  # llama.cpp's GPT-2 has only the other
    if other:
        raise BadExport(
            f"{loaded.path} has {other}: GGUF is written for GPT-2's shape only, and llama.cpp cannot run our own "
            "architecture; take --format onnx or huggingface"
        )
    scheme = loaded.tokenizer.scheme
    if scheme.library or scheme.pattern != split_pattern(GPT2_STEPS):
        raise BadExport(
            f"{loaded.path} has a tokenizer other than GPT-2's: llama.cpp would split text otherwise than in training; "
            "take --format onnx or huggingface"
        )
    names = gguf.get_tensor_name_map(_ARCHITECTURE, loaded.config.n_layer)
    tensors = {
        str(names.get_name(name, (".weight", ".bias"))): tensor.contiguous().numpy()
        for name, tensor in gpt2_shape.tensors(loaded.build_float()).items()
    }
    with written(out) as path:
        writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[_ARCHITECTURE])
        _add_shape(writer, loaded)
        _add_tokenizer(writer, loaded.tokenizer, loaded.config.vocab_size)
        for name, tensor in tensors.items():
            writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        _check(path, tensors)
    return f"{len(tensors)} tensors in float32, read again; quantize it with llama.cpp's llama-quantize"


def _add_shape(writer: gguf.GGUFWriter, loaded: LoadedModel) -> None:
    config = loaded.config
    writer.add_name(loaded.name)
    writer.add_block_count(config.n_layer)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.d_model)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.norm_eps)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer, vocab_size: int) -> None:
    """Tokens by id; ids that the model has beyond its tokenizer's are unused ones."""
    tokens = [f"[PAD{token}]" for token in range(vocab_size)]
    kinds = [gguf.TokenType.UNUSED] * vocab_size
    for token, text in enumerate(tokenizer.vocabulary):
        if text:
            tokens[token], kinds[token] = printable(text), gguf.TokenType.NORMAL
    for names, kind in (
        (tokenizer.scheme.literals, gguf.TokenType.USER_DEFINED),
        (special_tokens(tokenizer), gguf.TokenType.CONTROL),
    ):
        for name, token in names.items():
            tokens[token], kinds[token] = name, kind
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{printable(left)} {printable(right)}" for left, right in merges(tokenizer.ranks)])
    writer.add_bos_token_id(tokenizer.sentinel(END_OF_TEXT))
    writer.add_eos_token_id(tokenizer.sentinel(END_OF_TEXT))
    writer.add_add_bos_token(False)


def _check(path: Path, expected: dict[str, np.ndarray]) -> None:
    found = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    wrong = sorted(name for name in expected if not np.array_equal(found.get(name, np.empty(0)), expected[name]))
    if wrong or len(found) != len(expected):
        raise BadExport(f"{path} does not hold the model's weights, first {wrong[:1] or 'one too many'}")

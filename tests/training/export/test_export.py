"""Exports compute what our model computes, in the software that they are for."""

import dataclasses
import json
import sys

import gguf
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from tokenizers import Tokenizer as Library

from inference_service.model import huggingface, loading
from inference_service.model.tokenizer import END_OF_TEXT
from training.__main__ import main
from training.export import checks, onnx_graph
from training.export.checks import BadExport
from training.export.gguf_file import export_gguf
from training.export.huggingface import export_huggingface
from training.export.onnx_graph import export_onnx
from training.export.program import export_program

TEXT = "def main():\n    for line in lines:\n        print(line)\n"


def logits(loaded, tokens):
    with torch.inference_mode():
        return loaded.build_float()(tokens)


def tokens_of(loaded, *shape):
    return torch.randint(loaded.config.vocab_size, shape, generator=torch.Generator().manual_seed(2))


def test_onnxruntime_computes_our_logits_for_any_batch_and_length(own, tmp_path):
    said = export_onnx(own, tmp_path / "own.onnx")
    assert "opset 18; in onnxruntime logits differ from ours by at most" in said
    assert [path.name for path in tmp_path.iterdir()] == ["own.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "own.onnx")
    (given,), (put_out,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape) == ("tokens", ["batch", "sequence"])
    assert (put_out.name, put_out.shape) == ("logits", ["batch", "sequence", 264])
    assert session.get_modelmeta().custom_metadata_map["context_length"] == "128"
    for shape in ((1, 1), (3, 5), (1, 128)):
        tokens = tokens_of(own, *shape)
        (found,) = session.run(None, {"tokens": tokens.numpy()})
        np.testing.assert_allclose(found, logits(own, tokens).numpy(), atol=1e-4)


@pytest.mark.full
def test_a_large_models_weights_lie_beside_the_onnx_file(gpt2, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "_LARGEST_FILE", 1000)
    export_onnx(gpt2, tmp_path / "gpt2.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpt2.onnx", "gpt2.onnx.data"]
    onnx.checker.check_model(tmp_path / "gpt2.onnx")
    tokens = tokens_of(gpt2, 2, 9)
    (found,) = onnxruntime.InferenceSession(tmp_path / "gpt2.onnx").run(None, {"tokens": tokens.numpy()})
    np.testing.assert_allclose(found, logits(gpt2, tokens).numpy(), atol=1e-4)


def test_a_saved_program_computes_our_logits_for_any_batch_and_length(own, tmp_path):
    said = export_program(own, tmp_path / "own.pt2")
    assert "read again" in said
    program = torch.export.load(tmp_path / "own.pt2").module()
    for shape in ((1, 1), (3, 5), (1, 128)):
        tokens = tokens_of(own, *shape)
        torch.testing.assert_close(program(tokens), logits(own, tokens))


def test_transformers_computes_our_logits_from_gpt2s_shape(gpt2, tmp_path):
    said = export_huggingface(gpt2, tmp_path / "out")
    assert said.startswith("GPT2LMHeadModel; ")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert type(theirs).__name__ == "GPT2LMHeadModel"
    tokens = tokens_of(gpt2, 2, 40)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(tokens).logits, logits(gpt2, tokens), atol=1e-4, rtol=1e-4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer(TEXT).input_ids == gpt2.tokenizer.encode(TEXT)
    assert tokenizer.eos_token_id == gpt2.tokenizer.sentinel(END_OF_TEXT)
    again = huggingface.load(tmp_path / "out")
    assert again.config == gpt2.config
    assert again.tokenizer.encode(TEXT) == gpt2.tokenizer.encode(TEXT)


def test_our_own_architecture_says_that_transformers_has_no_class_for_it(own, tmp_path):
    said = export_huggingface(own, tmp_path / "out")
    assert said.startswith("Midfill's own layout, which transformers cannot load; ")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == "midfill"
    assert {name: config[name] for name in own.config.to_dict()} == own.config.to_dict()
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "transformers cannot load it" in readme
    assert "this model has positions rotary" in readme
    assert readme.endswith("# the card\n")
    ids = Library.from_file(str(tmp_path / "out" / "tokenizer.json")).encode(TEXT, add_special_tokens=False).ids
    assert ids == own.tokenizer.encode(TEXT)


def test_gguf_holds_gpt2s_tensors_and_tokenizer_under_llama_cpps_names(gpt2, tmp_path):
    export_gguf(gpt2, tmp_path / "gpt2.gguf")
    reader = gguf.GGUFReader(tmp_path / "gpt2.gguf")
    values = {name: field.contents() for name, field in reader.fields.items()}
    config = gpt2.config
    expected = {
        "general.architecture": "gpt2",
        "gpt2.context_length": config.context_length,
        "gpt2.embedding_length": config.d_model,
        "gpt2.block_count": config.n_layer,
        "gpt2.feed_forward_length": config.d_ff,
        "gpt2.attention.head_count": config.n_head,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.eos_token_id": gpt2.tokenizer.sentinel(END_OF_TEXT),
    }
    assert {name: values[name] for name in expected} == expected
    assert len(values["tokenizer.ggml.tokens"]) == config.vocab_size
    assert values["tokenizer.ggml.tokens"][gpt2.tokenizer.sentinel(END_OF_TEXT)] == END_OF_TEXT
    tensors = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
    model = gpt2.build_float()
    block = model.blocks[1]
    assert torch.equal(tensors["token_embd.weight"], model.embedding.weight)
    assert torch.equal(tensors["position_embd.weight"], model.positions.weight)
    assert torch.equal(tensors["blk.1.attn_qkv.weight"], torch.cat(tuple(block.attention.qkv.parts)))
    assert torch.equal(tensors["blk.1.attn_qkv.bias"], block.attention.qkv.bias)
    assert torch.equal(tensors["blk.1.ffn_down.weight"], block.mlp.down.weight)
    assert torch.equal(tensors["output_norm.bias"], model.final_norm.bias)
    assert len(tensors) == 4 + 12 * config.n_layer


def test_gguf_of_a_shape_that_llama_cpp_does_not_run_is_refused(own, tmp_path):
    with pytest.raises(BadExport, match=r"own has positions rotary: GGUF is written for GPT-2's shape only"):
        export_gguf(own, tmp_path / "own.gguf")
    assert not list(tmp_path.iterdir())


def test_gguf_of_a_tokenizer_that_llama_cpp_does_not_have_is_refused(gpt2, own, tmp_path):
    with pytest.raises(BadExport, match=r"llama\.cpp would split text otherwise than in training"):
        export_gguf(dataclasses.replace(gpt2, tokenizer=own.tokenizer), tmp_path / "mixed.gguf")


def test_other_logits_are_refused_and_nothing_is_written(own, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(BadExport, match="the export computes other logits"):
        export_huggingface(own, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make", ["mkdir", "touch"])
def test_what_is_there_is_never_replaced(own, tmp_path, make):
    getattr(tmp_path / "out", make)()
    with pytest.raises(BadExport, match="out exists: move it away"):
        export_huggingface(own, tmp_path / "out")


def test_the_command_writes_and_tells(own, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    arguments = ["export", str(own.path), "--format", "huggingface", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["midfill-train", *arguments])
    main()
    assert capsys.readouterr().out.startswith(f"{out}: Midfill's own layout")
    assert loading.is_huggingface(out)


def test_a_model_that_is_none_is_named(tmp_path, monkeypatch):
    arguments = ["export", str(tmp_path), "--format", "onnx", "--out", str(tmp_path / "x.onnx")]
    monkeypatch.setattr(sys, "argv", ["midfill-train", *arguments])
    with pytest.raises(SystemExit, match=r"midfill-train export: .*manifest\.json is missing"):
        main()

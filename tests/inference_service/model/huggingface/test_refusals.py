"""Checkpoints that are damaged, or that we could not compute exactly, are refused with the path and the reason."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference_service.model import huggingface, loading
from inference_service.model.location import BadModel
from inference_service.model.quantize import quantize_rows
from tests.inference_service.model.huggingface.small_models import CONTEXT, random_model, save


@pytest.fixture
def copy(checkpoint, tmp_path):
    """A function that copies a family's checkpoint, with changes of config.json; None removes a setting."""

    def make(family, **changes):
        path = shutil.copytree(checkpoint(family)[0], tmp_path / family)
        config = json.loads((path / "config.json").read_text()) | changes
        config = {key: value for key, value in config.items() if value is not None}
        (path / "config.json").write_text(json.dumps(config))
        return path

    return make


def change_weights(path, change):
    weights = load_file(path / "model.safetensors")
    change(weights)
    save_file(weights, path / "model.safetensors")


@pytest.mark.parametrize(
    ("family", "changes", "says"),
    [
        ("llama3", {"model_type": "mixtral"}, "'mixtral' model; supported are gpt2, gpt_bigcode, llama, qwen2, star"),
        ("llama3", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rotary scaling 'yarn'"),
        ("llama3", {"rope_parameters": None, "rope_scaling": {"type": "dynamic"}}, "rotary scaling 'dynamic'"),
        ("llama3", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor 0.5"),
        ("llama3", {"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ("llama3", {"quantization_config": {"quant_method": "gptq"}}, "quantized already"),
        ("llama3", {"num_attention_heads": 5}, "n_head 5 is not a multiple of n_kv_head 2"),
        ("llama3", {"hidden_size": None}, "config.json has no 'hidden_size'"),
        ("llama3", {"hidden_size": "48"}, "describes no model .* d_model must be a whole number"),
        ("llama3", {"num_hidden_layers": 3}, r"lacks the weight model\.layers\.2\."),
        ("llama3", {"num_hidden_layers": 1}, r"holds the weight model\.layers\.1\..* no place"),
        ("llama3", {"attention_bias": True}, r"lacks the weight model\.layers\.0\.self_attn\.[qo]_proj\.bias"),
        ("starcoder", {"vocab_size": 650}, "the tokenizer has .* tokens, the model only 650"),
        ("llama3", {"intermediate_size": 96}, r"do not fit config.json, first blocks\.0\.mlp"),
        ("llama3", {"tie_word_embeddings": True}, "lm_head.weight is not the embedding"),
        ("starcoder2", {"hidden_act": "relu"}, "hidden_act 'relu'"),
        ("gpt2", {"activation_function": "relu"}, "activation_function 'relu'"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention True"),
        ("gpt2", {"n_embd": 96}, "do not fit config.json"),
        ("starcoder", {"multi_query": False}, "do not fit config.json"),
    ],
)
def test_a_configuration_that_would_be_computed_wrongly(copy, family, changes, says):
    path = copy(family, **changes)
    with pytest.raises(BadModel, match=says) as refused:
        huggingface.load(path)
    assert str(path) in str(refused.value)


def test_a_sliding_window_shortens_the_context(copy):
    """As long as the window is not left, every token sees all before it."""
    assert huggingface.load(copy("starcoder2", sliding_window=100)).config.context_length == 100
    assert huggingface.load(copy("qwen2", sliding_window=100)).config.context_length == CONTEXT
    assert (
        huggingface.load(copy("qwen2-tied", sliding_window=100, use_sliding_window=True)).config.context_length == 100
    )


def test_older_checkpoints_name_their_rotary_settings_otherwise(copy, checkpoint):
    older = copy(
        "deepseek-coder", rope_parameters=None, rope_theta=1000.0, rope_scaling={"type": "linear", "factor": 4.0}
    )
    assert huggingface.load(older).config == huggingface.load(checkpoint("deepseek-coder")[0]).config


def test_a_missing_shard_is_named(tmp_path):
    save(random_model("qwen2"), "qwen2", tmp_path, max_shard_size="60KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(BadModel, match=rf"{shard.name} is missing: copy the whole checkpoint"):
        huggingface.load(tmp_path)


def test_a_truncated_shard_is_named(tmp_path):
    save(random_model("qwen2"), "qwen2", tmp_path, max_shard_size="60KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(BadModel, match=rf"{shard.name} is damaged or half copied"):
        huggingface.load(tmp_path)


def test_a_damaged_index_is_named(tmp_path):
    save(random_model("qwen2"), "qwen2", tmp_path, max_shard_size="60KB")
    (tmp_path / "model.safetensors.index.json").write_text("{")
    with pytest.raises(BadModel, match=r"index\.json is damaged"):
        huggingface.load(tmp_path)


def test_pickled_weights_are_never_read_and_the_remedy_is_told(copy):
    path = copy("gpt2")
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    with pytest.raises(BadModel, match=r"pickled weights \(pytorch_model\.bin\).*save_pretrained"):
        huggingface.load(path)


def test_no_weights_at_all(copy):
    path = copy("gpt2")
    (path / "model.safetensors").unlink()
    with pytest.raises(BadModel, match=r"model\.safetensors is missing"):
        huggingface.load(path)


def test_quantized_weights_are_refused(copy):
    path = copy("llama3")
    name = "model.layers.0.mlp.up_proj.weight"
    change_weights(path, lambda weights: weights.update({name: quantize_rows(weights[name])[0]}))
    with pytest.raises(BadModel, match=rf"weight {name} is quantized"):
        huggingface.load(path)


def test_a_damaged_configuration_is_named(copy):
    path = copy("gpt2")
    (path / "config.json").write_text("{")
    with pytest.raises(BadModel, match=r"config\.json cannot be read"):
        huggingface.load(path)


def test_a_model_saved_without_its_head_and_constants_of_old_versions(copy, checkpoint):
    """The original GPT-2 files: no prefix, no head, and the causal mask among the weights."""
    path = copy("gpt2")

    def as_in_2019(weights):
        for name in list(weights):
            weights[name.removeprefix("transformer.")] = weights.pop(name)
        weights["h.0.attn.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.uint8)
        weights["h.0.attn.masked_bias"] = torch.tensor(-1e4)

    change_weights(path, as_in_2019)
    floats, expected = huggingface.load(path).floats, huggingface.load(checkpoint("gpt2")[0]).floats
    assert all(torch.equal(floats[name], expected[name]) for name in expected)


def test_version_changes_with_the_weights(copy, checkpoint):
    path = copy("gpt2")
    before = huggingface.load(path)
    assert before.name == "gpt2" and len(before.version) == 12
    change_weights(path, lambda weights: weights["transformer.wpe.weight"].add_(1))
    assert huggingface.load(path).version != before.version


def test_either_layout_is_recognised(checkpoint, tiny_model_dir):
    assert loading.load(checkpoint("gpt2")[0]).config.positions == "learned"
    assert loading.load(tiny_model_dir).config.positions == "rotary"


def test_weights_stay_in_the_file_until_they_are_used(copy):
    """Loading 64 MiB takes hardly any memory of its own."""
    path = copy("gpt2")
    rows = 16 * 2**20 // 48
    settings = json.loads((path / "config.json").read_text()) | {"n_positions": rows}
    (path / "config.json").write_text(json.dumps(settings))
    change_weights(path, lambda weights: weights.update({"transformer.wpe.weight": torch.zeros(rows, 48)}))
    before = anonymous_memory()
    loaded = huggingface.load(path)
    assert anonymous_memory() - before < 8 * 2**20
    assert loaded.floats["positions.weight"].numel() * 4 > 60 * 2**20


def anonymous_memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

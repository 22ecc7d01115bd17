"""Model directories: complete and untouched, or refused with the reason."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference_service.model import directory
from inference_service.model.gpt import GPT, GPTConfig
from inference_service.model.int4 import dequantize_groups, quantize_groups
from inference_service.model.location import BadModel, resolve
from inference_service.model.quantize import use_int8_linears
from tests.conftest import BUNDLED_NANO

GPT2_SHAPE = {
    "logit_softcap": 0.0,
    "positions": "learned",
    "norm": "layer",
    "norm_affine": True,
    "norm_eps": 1e-5,
    "embedding_norm": False,
    "qk_norm": False,
    "activation": "gelu_tanh",
    "qkv_bias": True,
    "out_bias": True,
    "mlp_bias": True,
}


@pytest.fixture
def copy(tiny_model_dir, tmp_path):
    return shutil.copytree(tiny_model_dir, tmp_path / "model")


def test_round_trip(tiny_model_dir):
    loaded = directory.load(tiny_model_dir)
    assert loaded.name == "tiny"
    assert len(loaded.version) == 12
    assert loaded.build_float().config.d_model == 32


def test_version_changes_with_the_weights(copy, tiny_model_dir):
    (copy / "card.md").write_text("another card")
    directory.write_manifest(copy)
    assert directory.load(copy).version != directory.load(tiny_model_dir).version


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.tiktoken", "manifest.json"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(BadModel, match=f"{name} is missing"):
        directory.load(copy)


def test_a_flipped_bit_is_found(copy):
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BadModel, match="damaged or half copied"):
        directory.load(copy)


def test_a_truncated_weight_file_is_found_even_with_a_new_manifest(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    directory.write_manifest(copy)
    with pytest.raises(BadModel, match="cannot be read"):
        directory.load(copy)


def test_weights_of_another_shape_are_refused(copy):
    config = json.loads((copy / "config.json").read_text())
    config["architecture"]["n_layer"] = 3
    (copy / "config.json").write_text(json.dumps(config))
    directory.write_manifest(copy)
    with pytest.raises(BadModel, match=r"weights do not fit .* blocks\.2"):
        directory.load(copy)


def test_another_tokenizer_is_refused(copy):
    lines = (copy / "tokenizer.tiktoken").read_bytes().splitlines(keepends=True)
    (copy / "tokenizer.tiktoken").write_bytes(b"".join(lines[:-1]))
    directory.write_manifest(copy)
    with pytest.raises(BadModel, match="tokenizer is not the one"):
        directory.load(copy)


def with_tensors(copy, change):
    """Rewrite the weights, with a manifest that fits them."""
    tensors = load_file(copy / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors")
    directory.write_manifest(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("embedding.weight.scale"),
        lambda tensors: tensors.update({"embedding.weight.scale": torch.ones(3)}),
        lambda tensors: tensors.update({"embedding.weight": tensors["embedding.weight"].to(torch.int32)}),
        lambda tensors: tensors.update({"embedding.weight": tensors["embedding.weight"].to(torch.uint8)}),
    ],
)
def test_a_weight_without_its_scales_is_named(copy, change):
    with_tensors(copy, change)
    with pytest.raises(BadModel, match=r"weight embedding\.weight is neither int8 rows nor int4 groups"):
        directory.load(copy)


def random_model(**shape):
    config = GPTConfig(1000, n_layer=2, n_head=2, n_kv_head=2, d_model=64, d_ff=128, context_length=64, **shape)
    model = GPT(config)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.2, generator=generator)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def nano():
    return directory.load(BUNDLED_NANO)


@pytest.fixture(params=["own", "gpt2"])
def model(request):
    return random_model(**(GPT2_SHAPE if request.param == "gpt2" else {"bigram_rows": 200}))


TOKENS = torch.arange(40).view(2, 20) * 25


def test_gains_biases_and_positions_come_back_to_the_bit_and_matrices_nearly(model, nano, tmp_path):
    directory.write(tmp_path / "m", model, nano.tokenizer, [], "", {})
    loaded = directory.load(tmp_path / "m")
    expected = model.state_dict()
    assert loaded.int8.keys() | loaded.floats.keys() == expected.keys()
    assert all(torch.equal(loaded.floats[name], expected[name]) for name in loaded.floats)
    assert all(expected[name].dim() == 2 for name in loaded.int8)
    assert ("positions.weight" in loaded.floats) == (model.config.positions == "learned")
    with torch.inference_mode():
        torch.testing.assert_close(loaded.build_float()(TOKENS), model(TOKENS), atol=0.3, rtol=0.05)


def test_writing_what_was_loaded_changes_no_weight(nano, tmp_path):
    directory.write(tmp_path / "again", nano.build_float(), nano.tokenizer, [], "", {}, nano.int8)
    again = directory.load(tmp_path / "again")
    assert all(torch.equal(again.int8[name][0], rows) for name, (rows, _) in nano.int8.items())


def test_int4_takes_half_the_place_and_is_served_as_int8_rows(model, nano, tmp_path):
    matrices = {name: tensor for name, tensor in model.state_dict().items() if directory.is_matrix(name, tensor)}
    int4 = {name: quantize_groups(matrix, 32) for name, matrix in matrices.items()}
    directory.write(tmp_path / "int8", model, nano.tokenizer, [], "", {})
    directory.write(tmp_path / "int4", model, nano.tokenizer, [], "", {}, int4)
    sizes = {name: (tmp_path / name / "model.safetensors").stat().st_size for name in ("int8", "int4")}
    assert sizes["int4"] < 0.65 * sizes["int8"]
    assert json.loads((tmp_path / "int4" / "config.json").read_text())["quantization"].startswith(
        "int4 in groups of 32"
    )

    loaded = directory.load(tmp_path / "int4")
    rounded = GPT(model.config)
    rounded.load_state_dict(model.state_dict() | {name: dequantize_groups(*groups) for name, groups in int4.items()})
    with torch.inference_mode():
        expected = rounded(TOKENS)
        torch.testing.assert_close(loaded.build_float()(TOKENS), expected, atol=0.3, rtol=0.05)
        served = loaded.build_float()
        use_int8_linears(served, loaded.int8)
        assert (served(TOKENS) - expected).norm() < 0.1 * expected.norm()


def test_other_users_may_read_what_was_written(model, nano, tmp_path):
    directory.write(tmp_path / "m", model, nano.tokenizer, [], "", {})
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in (tmp_path / "m").iterdir())


def test_a_future_format_is_refused(copy):
    config = json.loads((copy / "config.json").read_text()) | {"format": 99}
    (copy / "config.json").write_text(json.dumps(config))
    directory.write_manifest(copy)
    with pytest.raises(BadModel, match="has format 99"):
        directory.load(copy)


def test_an_unknown_name_lists_the_bundled_models():
    with pytest.raises(BadModel, match="nano"):
        resolve("no-such-model")

"""Model directories: complete and untouched, or refused with the reason."""

import json
import shutil

import pytest

from inference_service.model import directory
from inference_service.model.location import BadModel, resolve


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


def test_a_future_format_is_refused(copy):
    config = json.loads((copy / "config.json").read_text()) | {"format": 99}
    (copy / "config.json").write_text(json.dumps(config))
    directory.write_manifest(copy)
    with pytest.raises(BadModel, match="has format 99"):
        directory.load(copy)


def test_an_unknown_name_lists_the_bundled_models():
    with pytest.raises(BadModel, match="nano"):
        resolve("no-such-model")

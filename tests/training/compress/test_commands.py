"""quantize, prune and distill as commands: what they write, and one sentence for each mistake."""

import json
import shutil
import sys

import pytest
import torch

from inference_service.model import directory
from tests.training.compress.conftest import recipe
from tests.training.prepared import BYTES
from training import checkpoint
from training.__main__ import main
from training.compress.source import BadSource, open_source

EASY = ["--max-growth", "5", "--min-agreement", "0", "--max-fall", "1"]


@pytest.fixture
def run_stage(monkeypatch, capsys):
    """Run a stage in this process; returns its exit message (None for success) and what it printed."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["midfill-train", *map(str, arguments)])
        try:
            main()
        except SystemExit as exit_:
            return exit_.code, capsys.readouterr().out
        return None, capsys.readouterr().out

    return run


@pytest.fixture
def run_folder(byte_model, tmp_path):
    """A training's folder: its recipe and a checkpoint with the model's float weights."""
    folder = tmp_path / "run"
    folder.mkdir()
    recipe(10).save(folder / "bytes.json")
    model = directory.load(byte_model).build_float()
    checkpoint.write(folder / checkpoint.FILE, checkpoint.take(model, [], {"step": 7, "tokenizer": BYTES.digest}))
    return folder


def test_a_run_is_quantized_with_a_table_and_a_line_of_json(run_stage, run_folder, byte_data, tmp_path):
    out = tmp_path / "out"
    code, printed = run_stage("quantize", run_folder, "--bits", 8, "--data", byte_data, "--out", out, *EASY)
    assert code is None
    *table, last = printed.splitlines()
    assert table[-1].startswith("| int8 rows, GPTQ |")
    result = json.loads(last)
    assert result["rows"][0]["name"] == "float32"
    assert result["gate"]["top1_agreement"] == 0
    config = json.loads((out / "config.json").read_text())
    assert config["training"]["tokens_seen"] == 7 * 512


def test_a_failed_gate_ends_with_an_error_and_without_a_directory(run_stage, byte_model, byte_data, tmp_path):
    arguments = ("--sparsity", 0.95, "--data", byte_data, "--out", tmp_path / "out")
    code, _ = run_stage("prune", byte_model, *arguments)
    assert code.startswith("midfill-train prune: bits per byte left to right grew by")
    assert list(tmp_path.iterdir()) == []


def test_a_student_is_distilled_and_released(run_stage, byte_model, byte_data, tmp_path):
    recipe(40).save(tmp_path / "student.json")
    arguments = ("--student", tmp_path / "student.json", "--run", tmp_path / "run", "--data", byte_data)
    code, printed = run_stage("distill", byte_model, *arguments, "--out", tmp_path / "out", *EASY)
    assert code is None
    assert "| distilled, 0.0 M weights, int8 rows |" in printed
    assert directory.load(tmp_path / "out").golden
    assert (tmp_path / "run" / checkpoint.FILE).exists()


def test_models_that_are_none_are_named(run_stage, byte_data, tmp_path):
    code, _ = run_stage("quantize", tmp_path / "no", "--bits", 8, "--data", byte_data, "--out", tmp_path / "out")
    assert "no model" in code
    (tmp_path / "empty").mkdir()
    code, _ = run_stage("quantize", tmp_path / "empty", "--bits", 8, "--data", byte_data, "--out", tmp_path / "out")
    assert "manifest.json is missing" in code


def test_a_missing_data_folder_says_what_to_run(run_stage, byte_model, tmp_path):
    code, _ = run_stage("quantize", byte_model, "--bits", 8, "--data", tmp_path / "no", "--out", tmp_path / "out")
    assert f"{tmp_path / 'no' / 'tokenizer.tiktoken'} is missing: run `midfill-train" in code


def test_data_of_another_tokenizer_is_refused(byte_data, tiny_model_dir):
    with pytest.raises(BadSource, match=r"was prepared with another tokenizer than .*tiny has"):
        open_source(str(tiny_model_dir), byte_data)


def test_an_output_that_is_something_else_is_refused_before_any_work(run_stage, byte_model, byte_data, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    code, _ = run_stage("quantize", byte_model, "--bits", 8, "--data", byte_data, "--out", tmp_path)
    assert "move it away or give another --out" in code
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_share_out_of_range_is_refused(run_stage, byte_model, byte_data, tmp_path):
    code, _ = run_stage("prune", byte_model, "--sparsity", 1.5, "--data", byte_data, "--out", tmp_path / "out")
    assert code == "midfill-train prune: sparsity 1.5 is not between 0 and 1"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence(run_stage, byte_model, byte_data, tmp_path):
    arguments = ("--recover-steps", 1, "--device", "cuda", "--data", byte_data, "--out", tmp_path / "out")
    code, _ = run_stage("prune", byte_model, *arguments)
    assert code.startswith("midfill-train prune: PyTorch sees no GPU on this machine")


def test_a_run_without_its_recipe_asks_for_it(run_folder, byte_data):
    (run_folder / "bytes.json").rename(run_folder.parent / "bytes.json")
    with pytest.raises(BadSource, match=r"holds 0 recipes .* give the run's recipe as --recipe"):
        open_source(str(run_folder), byte_data)
    given = open_source(str(run_folder), byte_data, str(run_folder.parent / "bytes.json"))
    assert given.training == {"recipe": "bytes", "tokens_seen": 7 * 512}


def test_a_run_of_another_tokenizer_or_recipe_is_refused(run_folder, byte_data, byte_model):
    model = directory.load(byte_model).build_float()
    checkpoint.write(run_folder / checkpoint.FILE, checkpoint.take(model, [], {"step": 1, "tokenizer": "another"}))
    with pytest.raises(BadSource, match="trained with another tokenizer than the data's"):
        open_source(str(run_folder), byte_data)
    checkpoint.write(run_folder / checkpoint.FILE, checkpoint.take(model.blocks, [], {"step": 1}))
    with pytest.raises(BadSource, match=r"does not fit recipe .* another model"):
        open_source(str(run_folder), byte_data)


def test_a_source_takes_its_sources_along(byte_model, byte_data, tmp_path):
    copy = shutil.copytree(byte_model, tmp_path / "copy")
    (copy / "sources.json").write_text("[]\n")
    directory.write_manifest(copy)
    assert open_source(str(copy), byte_data).beside == {"sources.json": "[]\n"}

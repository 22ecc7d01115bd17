"""The evaluate stage as somebody uses it: tables on stdout, JSON in a file, one sentence for a mistake."""

import json
import shutil
import sys

import pytest

from tests.inference_service.model.huggingface.small_models import random_model, save
from tests.training.small_data import write_small_data
from training.__main__ import main

pytestmark = pytest.mark.usefixtures("one_thread")

STRING = {
    "task_id": "mine/0",
    "prompt": 'TEXT = """',
    "suffix": '"""\n\n\ndef one():\n    return 1\n',
    "canonical_solution": "anything",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
    "entry_point": "one",
}
NEVER = STRING | {
    "task_id": "mine/1",
    "test": "def check(candidate):\n    assert candidate() == 1 and len(TEXT) == 8\n",
}
UNSOLVABLE = STRING | {"task_id": "mine/2", "test": "def check(candidate):\n    assert candidate() == 2\n"}
ADD = {
    "task_id": "mine/3",
    "prompt": "def add(a, b):\n",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    "entry_point": "add",
}


@pytest.fixture(scope="module")
def small(tokenizer, tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("small"), tokenizer, 3)


@pytest.fixture
def evaluate(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["midfill-train", "evaluate", *map(str, arguments)])
        main()
        return capsys.readouterr().out

    return run


def problems_file(folder, *problems):
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    return path


def test_an_evaluation_is_a_table_and_a_file(evaluate, tiny_model_dir, small, tmp_path):
    table = evaluate(tiny_model_dir, "--data", small, "--json", tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["model"] == "tiny"
    assert "| bits per byte, left to right | " in table
    for name, found in figures["figures"].items():
        assert found["low"] <= found["value"] <= found["high"], name
        assert found["units"] >= 2
    assert 2 < figures["figures"]["bits_per_byte"]["value"] < 8
    assert figures["tokens_per_s"] > 0
    assert set(figures["figures"]) >= {"exact_match_multi_line", "exact_match_random_span", "parses", "chars_saved"}


def test_a_checkpoint_of_another_family_is_compared_with_one_of_ours(evaluate, tiny_model_dir, small, tmp_path):
    checkpoint = save(random_model("gpt2"), "gpt2", tmp_path / "gpt2")
    table = evaluate("--compare", tiny_model_dir, checkpoint, "--data", small, "--holes", "5")
    assert "| single-line exact match, rest of a line | " in table
    assert "fill in the middle" not in table, "this one was not trained to"


def test_a_comparison_of_a_model_with_itself_finds_no_difference(evaluate, tiny_model_dir, small, tmp_path):
    table = evaluate("--compare", tiny_model_dir, tiny_model_dir, "--data", small, "--json", tmp_path / "both.json")
    compared = json.loads((tmp_path / "both.json").read_text())
    assert compared["first"]["figures"] == compared["second"]["figures"]
    assert all(found == {"value": 0, "low": 0, "high": 0, "p": 1} for found in compared["differences"].values())
    assert "| +0.0000 (+0.0000 to +0.0000) | 1.000 |" in table


def test_pass_at_k_counts_the_samples_that_pass(evaluate, tiny_model_dir, tmp_path, capsys):
    file = problems_file(tmp_path, STRING, NEVER, UNSOLVABLE)
    sampling = ("--samples", 4, "--k", "1,4", "--temperature", 0.8, "--max-tokens", 8)
    table = evaluate(tiny_model_dir, "--benchmark", file, *sampling, "--json", tmp_path / "passed.json")
    found = json.loads((tmp_path / "passed.json").read_text())
    outcomes = {problem["task_id"]: (problem["passed"], problem["solvable"]) for problem in found["problems"]}
    assert outcomes["mine/0"][0] >= 1
    assert outcomes["mine/1"] == (0, True)
    assert outcomes["mine/2"] == (0, False)
    assert found["figures"]["pass@4"]["value"] == pytest.approx(1 / 3, abs=1e-4)
    assert "| pass@4 | 33.3 % " in table


def test_in_line_mode_a_completion_ends_with_its_line(evaluate, tiny_model_dir, tmp_path):
    comment = {"prompt": "def one():\n    return 1\n# ", "suffix": "\n"}
    file = problems_file(tmp_path, STRING | comment)
    passed = {}
    for mode in ("auto", "line"):
        out = tmp_path / f"{mode}.json"
        sampling = ("--samples", 6, "--temperature", 1, "--max-tokens", 200, "--mode", mode)
        evaluate(tiny_model_dir, "--benchmark", file, *sampling, "--json", out)
        passed[mode] = json.loads(out.read_text())["problems"][0]["passed"]
    assert passed["auto"] < passed["line"]


def test_left_to_right_needs_no_suffix(evaluate, tiny_model_dir, tmp_path):
    file = problems_file(tmp_path, ADD)
    evaluate(tiny_model_dir, "--benchmark", file, "--left-to-right", "--json", tmp_path / "passed.json")
    (problem,) = json.loads((tmp_path / "passed.json").read_text())["problems"]
    assert problem == {"task_id": "mine/3", "samples": 1, "passed": 0, "solvable": True}
    with pytest.raises(SystemExit, match=r"line 1: the problem has no suffix; run it with --left-to-right"):
        evaluate(tiny_model_dir, "--benchmark", file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "problems.jsonl holds no problem"),
        ("{}\n", "problems.jsonl, line 1: not a benchmark problem"),
        (json.dumps(STRING) + "\n{\n", "problems.jsonl, line 2: not a benchmark problem"),
        (json.dumps(STRING | {"test": 1}) + "\n", "line 1: every field of a problem must be a string"),
    ],
)
def test_a_bad_benchmark_file_is_named_with_its_line(evaluate, tiny_model_dir, tmp_path, content, message):
    file = tmp_path / "problems.jsonl"
    file.write_text(content)
    with pytest.raises(SystemExit, match=message):
        evaluate(tiny_model_dir, "--benchmark", file)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give one model, or two with --compare"),
        (("nano", "--compare", "nano", "nano"), "give one model, or two with --compare"),
        (("nano", "--json", "nowhere/figures.json"), "nowhere is not a folder: give another --json"),
        (("nosuch",), "no model 'nosuch': give a model directory or one of nano"),
        (("nano", "--data", "nowhere"), "nowhere.*is missing"),
        (("nano", "--benchmark", "nowhere.jsonl"), "nowhere.jsonl cannot be read"),
        (("nano", "--benchmark", "x", "--k", "10"), "pass@10 needs at least 10 samples a problem"),
        (("nano", "--benchmark", "x", "--samples", "2"), "at temperature 0 every sample is the same"),
        (("nano", "--benchmark", "x", "--samples", "0"), "must be at least 1"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(evaluate, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message) as mistake:
        evaluate(*arguments)
    assert "\n" not in str(mistake.value)


def test_a_damaged_model_is_not_measured(evaluate, tiny_model_dir, small, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_model_dir, damaged)
    with (damaged / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(SystemExit, match=r"model\.safetensors is damaged or half copied"):
        evaluate(damaged, "--data", small)

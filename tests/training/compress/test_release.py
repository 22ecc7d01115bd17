"""The gate: a compressed model is released with its figures, or not at all and nothing is touched."""

import dataclasses
import json
import math

import pytest
import torch

from inference_service.model import directory
from training.compress.drift import HeldOut
from training.compress.gate import INT8, Figures, Gate, TooMuchDrift
from training.compress.prune import prune
from training.compress.quantize import int4_gptq, int4_nearest, int8, int8_nearest
from training.compress.release import release
from training.compress.table import Row, markdown
from training.golden import check_golden
from training.model_output import BadOutput

ANYTHING = Gate(bits_per_byte=10.0, top1_agreement=0.0, exact_match=1.0)


@pytest.fixture(scope="module")
def held(byte_data):
    from tests.training.prepared import BYTES

    return HeldOut.open(byte_data, BYTES, pieces=8, holes=4)


def tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_int8_passes_its_gate_and_is_a_complete_model_directory(source, held, byte_data, tmp_path):
    before = {name: tensor.clone() for name, tensor in source.model.state_dict().items()}
    rows = release(source, int8(source, byte_data), held, INT8, tmp_path / "out")
    assert all(torch.equal(tensor, before[name]) for name, tensor in source.model.state_dict().items())
    assert [row.name for row in rows] == ["float32", "int8 rows, GPTQ"]
    assert rows[0].figures.top1_agreement == 1.0
    assert rows[1].figures.weights_mb < 0.4 * rows[0].figures.weights_mb
    loaded = directory.load(tmp_path / "out")
    check_golden(loaded)
    assert len(loaded.golden) >= 3
    assert "| int8 rows, GPTQ |" in (tmp_path / "out" / "card.md").read_text()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["training"]["recipe"] == "bytes"
    (step,) = config["training"]["compression"]
    assert (step["quantize"]["bits"], step["quantize"]["method"]) == (8, "GPTQ")
    assert step["drift"]["top1_agreement"] > 0.9


def test_int4_is_shown_beside_plain_rounding(source, held, byte_data, tmp_path):
    compensated = int4_gptq(source, 32, byte_data)
    rows = release(source, compensated, held, ANYTHING, tmp_path / "a", [int4_nearest(source, 32)])
    assert [row.name for row in rows] == ["float32", "int4, groups of 32, nearest", "int4, groups of 32, GPTQ"]
    assert all(row.figures.bits_per_byte < 1.1 * rows[0].figures.bits_per_byte for row in rows)
    assert directory.load(tmp_path / "a").build_float().config == source.model.config
    assert not list(tmp_path.glob(".*"))


def test_a_model_that_drifted_is_not_written_and_every_figure_is_told(source, held, byte_data, tmp_path):
    ruined = prune(source, byte_data, sparsity=0.98, two_of_four=False)
    directory.write(tmp_path / "out", source.model, source.tokenizer, [], "the one before", {})
    before = tree(tmp_path)
    with pytest.raises(TooMuchDrift, match=r"left to right grew by .*; .*top-1 agreement is .*; .* is unchanged\n\| w"):
        release(source, ruined, held, INT8, tmp_path / "out")
    assert tree(tmp_path) == before


def test_a_folder_that_is_no_model_is_never_replaced(source, held, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadOutput, match="move it away"):
        release(source, int8_nearest(source), held, ANYTHING, tmp_path)
    assert tree(tmp_path).keys() == {(tmp_path / "notes.txt").relative_to(tmp_path)}


FIGURES = Figures(10.0, 9.0, 100.0, 1.0, 1.0, 1.0, 0.30)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"bits_per_byte": 1.009, "bits_per_byte_fim": 0.9, "top1_agreement": 0.95, "exact_match": 0.5}, None),
        ({"bits_per_byte": 1.05}, "bits per byte left to right grew by 5.0%, allowed are 1.0%"),
        ({"bits_per_byte_fim": 1.02}, "bits per byte fill in the middle grew by 2.0%, allowed are 1.0%"),
        ({"bits_per_byte": math.nan}, "bits per byte left to right grew by nan%, allowed are 1.0%"),
        ({"top1_agreement": 0.8}, "top-1 agreement is 80.0%, needed are 90.0%"),
        ({"exact_match": 0.25}, "line exact match fell by 5.0% of the lines, allowed are 2.0%"),
    ],
)
def test_each_figure_has_its_own_limit(change, problem):
    found = Gate(0.01, 0.9, 0.02).check(FIGURES, dataclasses.replace(FIGURES, **change))
    assert found == ([problem] if problem else [])


def test_a_model_that_does_not_fill_in_is_judged_by_the_rest():
    plain = dataclasses.replace(FIGURES, bits_per_byte_fim=None)
    assert Gate(0.01, 0.9, 0.02).check(plain, plain) == []
    assert markdown([Row("float32", plain)]).splitlines()[-1].count("|  |") >= 1


def test_the_table_tells_growth_and_verdict():
    after = dataclasses.replace(FIGURES, bits_per_byte=1.1, top1_agreement=0.876)
    lines = markdown([Row("float32", FIGURES), Row("small", after, ["too much"]), Row("fine", FIGURES, [])]).split("\n")
    assert "1.1000 (+10.0%)" in lines[3]
    assert lines[3].endswith("| 87.6% | 30.0% | fails |")
    assert lines[4].endswith("passes |")
    assert len({line.count("|") for line in lines}) == 1

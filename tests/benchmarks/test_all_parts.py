"""A run of all benchmarks where some cannot be measured."""

import importlib

import pytest

from tests.benchmarks import __main__ as every


def test_what_cannot_be_measured_does_not_stop_the_rest_and_is_listed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        every, "SHORT", (every.Part("tokenizer", 1, f"--corpus {tmp_path}/no"), every.Part("data", 1, "--unknown"))
    )
    monkeypatch.setattr("sys.argv", ["tests.benchmarks", "--results", str(tmp_path / "results")])
    assert every.main() == 1
    told = capsys.readouterr().out
    assert f"needs {tmp_path}/no" in told and "unrecognized arguments: --unknown" in told
    assert "not measured: tokenizer, data" in told


@pytest.mark.parametrize("name", sorted({part.name for part in (*every.SHORT, *every.FULL)}))
def test_each_part_still_fits_the_code_that_it_measures(name, monkeypatch, capsys):
    """Nobody runs the long ones but by hand."""
    monkeypatch.setattr("sys.argv", [f"bench_{name}", "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"tests.benchmarks.bench_{name}").main()
    assert not ended.value.code and "--results" in capsys.readouterr().out

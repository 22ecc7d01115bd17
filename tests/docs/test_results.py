"""Figures that are kept in the repository say what they were measured on, and with what."""

import json

import pytest

from tests.benchmarks import record

FILES = sorted(record.RESULTS.glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_result_tells_command_machine_versions_and_commit(path):
    result = json.loads(path.read_text())
    assert {"benchmark", "command", "date", "machine", "versions", "commit", "figures"} == set(result) - {"transcribed"}
    assert path.name.startswith(f"{result['date'][:10]}-{result['benchmark']}-")
    assert {"processor", "cores", "gpu", "load_before"} <= set(result["machine"])
    assert "python" in result["versions"] and result["figures"]


def test_what_a_benchmark_writes_is_such_a_result(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["/home/me/midfill/tests/benchmarks/bench_engine.py", "--results", "x", "--requests", "5"]
    )
    path = record.write("engine", {"p50_ms": 1.23456789}, tmp_path)
    result = json.loads(path.read_text())
    assert result["command"] == "python -m tests.benchmarks.bench_engine --requests 5"
    assert result["figures"] == {"p50_ms": 1.23457}
    assert result["machine"]["cores"] >= 1 and result["commit"]

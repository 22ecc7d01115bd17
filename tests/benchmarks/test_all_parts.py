"""A run of all benchmarks where some cannot be measured."""

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

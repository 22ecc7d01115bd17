"""The daily evaluation: a real service asked for held-out lines, the outcome on its metrics page."""

import json
import time

import httpx
import pytest

from inference_service.__main__ import main


def test_the_outcome_is_told_kept_and_shown(start_process, tmp_path, capsys):
    database = f"sqlite:///{tmp_path}/midfill.sqlite"
    service = start_process("--port", "0", "--database", database).ready()
    held_out = tmp_path / "held_out.jsonl"
    lines = [{"prompt": "x", "suffix": "\n", "expected": text} for text in (" w0 w1 w2", " something else")]
    held_out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    flags = ["evaluate-live", "--endpoint", service, "--held-out", str(held_out), "--database", database]
    assert main([*flags, "--floor", "0.5"]) == 0
    assert capsys.readouterr().out == "version 0123abcd: 1 of 2 lines exact (50.0%, floor 50.0%)\n"
    assert main([*flags, "--floor", "0.9"]) == 1, "below the floor a job fails"
    end = time.monotonic() + 60
    floor = 'midfill_live_exact_match_floor{model_version="0123abcd"} 0.9'
    while floor not in (page := httpx.get(f"{service}/metrics", timeout=60).text):
        assert time.monotonic() < end, page
        time.sleep(0.2)
    assert 'midfill_live_exact_match_ratio{model_version="0123abcd"} 0.5' in page
    assert "midfill_live_exact_match_timestamp_seconds" in page

    assert main(["evaluate-live", "--endpoint", service, "--database", "none"]) == 0, "some held-out lines ship"
    assert "0 of 24 lines exact" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--endpoint", "http://127.0.0.1:9"], "http://127.0.0.1:9 does not answer (ConnectError)"),
        (["--held-out", "/no/such.jsonl"], "cannot read --held-out /no/such.jsonl"),
        (["--floor", "2"], "--floor must be a number from 0 to 1"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(flags, says, capsys):
    assert main(["evaluate-live", "--database", "none", *flags]) in (1, 2)
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1


@pytest.mark.parametrize("line", ["{", "[]", '{"prompt": "x"}', '{"prompt": "x", "suffix": "", "expected": 1}'])
def test_a_bad_line_is_named(line, tmp_path, capsys):
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text(f"{json.dumps({'prompt': 'x', 'suffix': '', 'expected': 'y'})}\n{line}\n")
    assert main(["evaluate-live", "--database", "none", "--held-out", str(held_out)]) == 2
    assert "line 2 of the held-out file must be" in capsys.readouterr().err

"""`midfill-lsp replay`: what would be shown for holes in a file, told by numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lsp_server.replay import holes_of
from tests.lsp_server.scripted_service import Reply, ScriptedService
from tests.lsp_server.session import ROOT

FILE = "def add(a, b):\n    total = a + b\n    return total\n\nprint(add(1, 2))\n"


@given(st.lists(st.text(st.sampled_from("ab (=\t"), max_size=12), max_size=20).map("\n".join), st.integers(0, 30))
def test_a_hole_is_the_rest_of_a_line(text: str, count: int) -> None:
    holes = list(holes_of(text, count))
    assert len(holes) <= count
    for hole in holes:
        assert hole.missing.strip() and "\n" not in hole.missing
        filled = hole.before + hole.missing + hole.after
        assert [line.rstrip() for line in filled.split("\n")] == [line.rstrip() for line in text.split("\n")]


def replay(service: ScriptedService, env: dict[str, str], file: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lsp_server", "replay", str(file), "--endpoint", service.url, *arguments]
    return subprocess.run(
        command, cwd=file.parent, env={**env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )


def test_shown_and_right_and_what_each_filter_did(
    service: ScriptedService, server_env: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "add.py"
    file.write_text(FILE)
    service.replies.extend(
        [
            Reply(("def add(a, b):",)),  # right
            Reply(("= a - b",)),  # wrong
            Reply(("return total", "\nreturn total" * 9)),  # right, what a filter cuts off does no harm
            Reply(("d(1, 2))",), mean_logprob=-3.0),  # right, but the model is not sure
        ]
    )
    done = replay(service, server_env, file, "--holes", "4")
    assert done.returncode == 0, done.stderr
    prompts = [call.body["prompt"] for call in service.completions]
    assert prompts == [
        "",
        "def add(a, b):\n    total ",
        "def add(a, b):\n    total = a + b\n    ",
        FILE.partition("d(1, 2)")[0],
    ]
    assert service.completions[1].body["suffix"] == "\n    return total\n\nprint(add(1, 2))\n"
    first, *rest = done.stdout.splitlines()
    assert first == "4 holes: 75% shown, 67% of them right; the model wrote 75% right"
    assert any(line.startswith("filter ") and line.endswith("0 of them right before and not after") for line in rest)
    assert rest[-1] == "not shown: 1 because the model is not sure"


def test_files_that_cannot_be_read_or_sent_are_named(
    service: ScriptedService, server_env: dict[str, str], tmp_path: Path
) -> None:
    done = replay(service, server_env, tmp_path / "none.py")
    assert done.returncode == 2 and "cannot read" in done.stderr
    (tmp_path / ".env").write_text("PASSWORD=1234\n")
    done = replay(service, server_env, tmp_path / ".env")
    assert "never sent" in done.stderr and service.completions == []

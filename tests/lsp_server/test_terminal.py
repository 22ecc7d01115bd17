"""The commands for the terminal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from lsp_server.__main__ import main
from tests.lsp_server.conftest import Editor
from tests.lsp_server.scripted_service import Reply, ScriptedService
from tests.lsp_server.session import ROOT
from tests.lsp_server.test_network import serve

FILE = "s = '😀'\r\ndef add(a, b):\r\n    ret\r\n"


@dataclass
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def run(
    state_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Run `midfill-lsp …` in a folder with a file."""
    monkeypatch.setenv("XDG_STATE_HOME", str(state_home))
    monkeypatch.delenv("MIDFILL_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "add.py").write_text(FILE, newline="")

    def call(*arguments: str) -> Done:
        status = main(list(arguments))
        printed = capsys.readouterr()
        return Done(status, printed.out, printed.err)

    return call


def test_complete_prints_the_text_and_nothing_else(
    service: ScriptedService, server_env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "add.py").write_text(FILE, newline="")
    service.answer("urn a + b")
    done = subprocess.run(
        [sys.executable, "-m", "lsp_server", "complete", "add.py:3:8", "--endpoint", service.url],
        cwd=tmp_path,
        env={**server_env, "PYTHONPATH": str(ROOT), "MIDFILL_TOKEN": "k1"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "urn a + b\n", "")
    call = service.completions[0]
    assert call.body["prompt"] == "s = '😀'\ndef add(a, b):\n    ret"
    assert (call.body["path"], call.body["language"]) == ("add.py", "python")
    assert call.headers["authorization"] == "bearer k1"


def test_columns_count_characters(run: Callable[..., Done], service: ScriptedService) -> None:
    run("complete", "add.py:1:7", "--endpoint", service.url)
    assert service.completions[0].body["prompt"] == "s = '😀"


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("add.py", "is not FILE:LINE:COL"),
        ("add.py:0:1", "counted from 1"),
        ("add.py:9:1", "has 4 lines, there is no line 9"),
        ("add.py:3:9", "has 7 characters, there is no column 9"),
        ("none.py:1:1", "cannot read none.py: No such file"),
    ],
)
def test_complete_says_what_is_wrong_with_the_place(run: Callable[..., Done], place: str, says: str) -> None:
    done = run("complete", place, "--endpoint", "http://127.0.0.1:1")
    assert (done.status, done.out) == (2, "")
    assert says in done.err


def test_complete_tells_why_there_is_nothing(
    run: Callable[..., Done], service: ScriptedService, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("KEY=")
    done = run("complete", ".env:1:5", "--endpoint", service.url)
    assert (done.status, done.out) == (0, "")
    assert "never sent" in done.err
    service.default = Reply(status=500)
    done = run("complete", "add.py:3:8", "--endpoint", service.url)
    assert (done.status, done.out) == (1, "")
    assert "scripted 500" in done.err
    service.default = Reply(("  \n ",))
    done = run("complete", "add.py:3:8", "--endpoint", service.url)
    assert done.out == "" and "trailing_whitespace" in done.err
    assert run("complete", "add.py:3:8", "--endpoint", "nowhere").status == 2


def test_doctor_reports_a_healthy_service(run: Callable[..., Done], service: ScriptedService) -> None:
    done = run("doctor", "--endpoint", service.url)
    assert done.status == 0
    assert "reachable and ready" in done.out
    assert "models: scripted" in done.out
    assert "a completion of 4 characters came back after" in done.out


def test_doctor_tells_settings_with_their_source_and_the_last_requests(
    run: Callable[..., Done], service: ScriptedService, editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor.open("NOT_TO_BE_TOLD = ║\n", "told.py")
    editor.texts()
    monkeypatch.setenv("MIDFILL_TOKEN", "sk-from-the-environment")
    arguments = ("--set", "maxLines=3", "--set", "proxy=http://bob:secret@proxy.example:8080")
    done = run("doctor", "--endpoint", service.url, *arguments)
    assert done.status == 0
    assert f"midfill.endpoint = {service.url} (the command line)" in done.out
    assert "midfill.maxLines = 3 (the command line)" in done.out
    assert "an API key is taken from MIDFILL_TOKEN" in done.out
    assert "://…@proxy.example:8080" in done.out
    assert "secret" not in done.out and "sk-from" not in done.out
    assert "127.0.0.1 is 127.0.0.1" in done.out and "connected to port" in done.out
    assert "its first text after" in done.out
    assert "told.py: shown (4 characters)" in done.out.splitlines()[-1], "what an editor asked for last"
    assert "NOT_TO_BE_TOLD" not in done.out


def test_a_misspelt_variable_is_told_and_stops_nothing(
    run: Callable[..., Done], service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDFILL_TOKEN_FILE", "/key")
    done = run("doctor", "--endpoint", service.url)
    assert done.status == 0
    assert done.err == "midfill-lsp: MIDFILL_TOKEN_FILE: it is ignored; is MIDFILL_TOKEN meant?\n"


def test_doctor_says_which_setting_cannot_be_used(run: Callable[..., Done]) -> None:
    done = run("doctor", "--set", "maxLines=many")
    assert (done.status, done.out) == (2, "")
    assert "midfill.maxLines: expected integer, got str" in done.err


def test_doctor_goes_the_way_of_tls(run: Callable[..., Done], tmp_path: Path) -> None:
    authority = trustme.CA()
    service = serve(authority, "127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "company.pem"))
    done = run("doctor", "--endpoint", service.url)
    assert done.status == 1
    assert "is not trusted" in done.out and "midfill.tls.caBundle" in done.out
    done = run("doctor", "--endpoint", service.url, "--set", f"tls.caBundle={tmp_path / 'company.pem'}")
    assert done.status == 0
    assert "its certificate is trusted: from trustme" in done.out
    done = run("doctor", "--endpoint", service.url, "--set", "tls.caBundle=/none.pem")
    assert done.status == 1
    assert "there is no file /none.pem" in done.out
    service.stop()


def test_doctor_names_a_host_without_an_address_and_a_port_without_tls(
    run: Callable[..., Done], service: ScriptedService
) -> None:
    done = run("doctor", "--endpoint", "http://nowhere.invalid")
    assert done.status == 1
    assert "the name nowhere.invalid has no address" in done.out
    done = run("doctor", "--endpoint", service.url.replace("http:", "https:"))
    assert done.status == 1
    assert "PROBLEM" in done.out


def test_doctor_names_a_refused_key_and_a_missing_service(
    run: Callable[..., Done], service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.required_key = "right"
    monkeypatch.setenv("MIDFILL_TOKEN", "wrong-key")
    done = run("doctor", "--endpoint", service.url)
    assert done.status == 1
    assert "PROBLEM" in done.out and "MIDFILL_TOKEN" in done.out
    assert "wrong-key" not in done.out
    done = run("doctor", "--endpoint", "http://127.0.0.1:1")
    assert done.status == 1
    assert "no service answers at http://127.0.0.1:1" in done.out


def test_doctor_tells_why_a_service_is_not_ready(run: Callable[..., Done], service: ScriptedService) -> None:
    service.unready = "the model is being loaded"
    done = run("doctor", "--endpoint", service.url)
    assert done.status == 1
    assert f"PROBLEM: {service.url} is busy or loading: the model is being loaded" in done.out


def test_the_address_that_other_clients_want_is_understood(run: Callable[..., Done], service: ScriptedService) -> None:
    service.answer("urn a + b")
    assert run("complete", "add.py:3:8", "--endpoint", f"{service.url}/v1/").out == "urn a + b\n"


def test_a_fault_is_told_once(state_home: Path, server_env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "add.py").write_text(FILE, newline="")
    command = [sys.executable, "-m", "lsp_server", "complete", "add.py:3:8", "--endpoint", "http://127.0.0.1:1"]
    environment = {**server_env, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.count("no service answers") == 1


def test_replay_needs_a_hole(run: Callable[..., Done], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("replay", "add.py", "--holes", "0")
    assert "--holes: must be 1 or more" in capsys.readouterr().err

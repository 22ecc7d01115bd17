"""Where the API key comes from."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from lsp_server import tokens as module
from lsp_server.client import ServiceClient
from lsp_server.faults import ServiceFault
from lsp_server.settings import Settings
from lsp_server.tokens import TokenError, Tokens
from tests.lsp_server.conftest import Editor
from tests.lsp_server.scripted_service import ScriptedService
from tests.lsp_server.test_network import REQUEST


def printing(path: Path) -> tuple[str, ...]:
    """A command that prints the content of a file and counts its runs beside it."""
    code = f"import pathlib; p = {str(path)!r}; open(p + '.n', 'a').write('.'); print(pathlib.Path(p).read_text())"
    return (sys.executable, "-c", code)


async def test_private_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-file\n")
    file.chmod(0o600)
    tokens = Tokens(Settings(token_file=str(file)))
    assert await tokens.get() == "sk-file"
    file.write_text("sk-new\n")
    assert await tokens.get() == "sk-new", "a changed file counts at once"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
async def test_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key"
    file.write_text("sk-file")
    file.chmod(mode)
    with pytest.raises(TokenError, match=r"chmod 600") as caught:
        await Tokens(Settings(token_file=str(file))).get()
    assert "sk-file" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "two words", "schlüssel"])
async def test_file_without_a_key(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content, encoding="utf-8")
    file.chmod(0o600)
    with pytest.raises(TokenError, match="no API key"):
        await Tokens(Settings(token_file=str(file))).get()


async def test_command_runs_once_for_many_and_again_when_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-1")
    tokens = Tokens(Settings(token_command=printing(file)))
    assert await asyncio.gather(*(tokens.get() for _ in range(5))) == ["sk-1"] * 5
    file.write_text("sk-2")
    assert await tokens.get() == "sk-1"
    assert tokens.refused("sk-1")
    assert await asyncio.gather(*(tokens.get() for _ in range(3))) == ["sk-2"] * 3
    assert tokens.refused("sk-1"), "somebody still used the old one"
    assert await tokens.get() == "sk-2", "which is no reason to run it again"
    assert Path(f"{file}.n").read_text() == ".."


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("/no/such/program",), "cannot be run"),
        ((sys.executable, "-c", "raise SystemExit(3)"), "exit status 3"),
        ((sys.executable, "-c", "print('')"), "no API key"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), "nothing within"),
    ],
)
async def test_command_that_fails(command: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMMAND_S", 0.5 if "sleep" in command[-1] else 20.0)
    with pytest.raises(TokenError, match=says):
        await Tokens(Settings(token_command=command)).get()


async def test_expired_key_is_fetched_again_within_the_request(service: ScriptedService, tmp_path: Path) -> None:
    service.required_key = "sk-2"
    file = tmp_path / "key"
    file.write_text("sk-1")
    client = ServiceClient(service.url, Tokens(Settings(token_command=printing(file))), 5000)
    with pytest.raises(ServiceFault) as caught:
        await client.complete(REQUEST)
    assert caught.value.status == 401
    file.write_text("sk-2")
    completion = await client.complete(REQUEST)
    assert completion is not None and completion.text == "pass"
    await client.close()


def test_trouble_with_the_key_is_told_in_the_status_and_the_key_never(
    editor: Editor, tmp_path: Path, state_home: Path
) -> None:
    file = tmp_path / "key"
    file.write_text("sk-in-a-file")
    editor.configure(tokenFile=str(file))
    editor.open("x = ║\n")
    file.chmod(0o644)
    assert editor.texts() == []
    said = editor.session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Warning")
    assert "chmod 600" in said["message"]
    file.chmod(0o600)
    assert editor.texts() == ["pass"]
    assert editor.service.completions[0].headers["authorization"] == "bearer sk-in-a-file"
    report = editor.session.command("midfill.doctor")
    assert f"taken from the file {file}" in report
    log = (state_home / "midfill" / "lsp.log").read_text()
    assert "sk-in-a-file" not in report + log

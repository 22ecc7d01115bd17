"""Where settings come from and what happens to wrong ones."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lsp_server
from lsp_server.settings import Settings, describe, flatten, parse
from tests.lsp_server.conftest import Editor
from tests.lsp_server.scripted_service import ScriptedService
from tests.lsp_server.session import AUTOMATIC, ROOT, Session


def test_keys_become_settings() -> None:
    raw = {
        "endpoint": "https://ai.example/",
        "debounceMs": 5,
        "disabledLanguages": ["markdown"],
        "mode": None,
    }
    settings, problems = parse(raw, {})
    assert problems == []
    assert (settings.endpoint, settings.debounce_ms, settings.mode) == ("https://ai.example", 5, "auto")
    assert settings.disabled_languages == ("markdown",)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("debounceMs", "75", "expected integer, got str"),
        ("debounceMs", True, "expected integer, got bool"),
        ("debounceMs", -1, "expected 0 to 5000, got -1"),
        ("enable", "no", "expected boolean, got str"),
        ("mode", "word", "expected one of auto, line, block"),
        ("disabledGlobs", "*.py", "expected array of strings, got str"),
        ("disabledGlobs", [1], "expected array of strings, got list"),
        ("endpoint", "ftp://x", 'expected "local" or a URL'),
        ("endpoint", "http://[::1", 'expected "local" or a URL'),
        ("endpiont", "x", "no such setting"),
        ("token", "two words", "expected printable ASCII"),
    ],
)
def test_wrong_value_leaves_the_default_and_says_so(key: str, value: object, says: str) -> None:
    settings, problems = parse({key: value}, {})
    assert settings == Settings()
    assert len(problems) == 1
    assert f"midfill.{key}" in problems[0]
    assert says in problems[0]


def test_key_from_the_environment_wins_and_is_never_printed() -> None:
    settings, _ = parse({"token": "in-file"}, {"MIDFILL_TOKEN": "in-env\n"})
    assert settings.token == "in-env"
    assert "in-env" not in repr(settings)


@pytest.mark.parametrize("raw", [{"midfill": {"mode": "line"}}, {"mode": "line"}, {"midfill.mode": "line"}])
def test_editors_spell_sections_differently(raw: object) -> None:
    assert flatten(raw) == {"mode": "line"}


@pytest.mark.parametrize(
    "raw", [{"context": {"enable": False}}, {"context.enable": False}, {"midfill": {"context": {"enable": False}}}]
)
def test_and_sections_within_the_section(raw: object) -> None:
    assert flatten(raw) == {"context.enable": False}


def test_settings_command_describes_every_setting() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "lsp_server", "settings"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    rows = json.loads(printed)
    assert rows == describe()
    defaults = {row["key"].removeprefix("midfill."): row["default"] for row in rows}
    assert parse(defaults, {}) == (Settings(), [])
    assert all(row["doc"].endswith(".") and row["type"] for row in rows)


def test_version_is_the_distributions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert lsp_server.__version__ == project["version"]


def test_change_of_settings_takes_effect_at_once(editor: Editor) -> None:
    editor.open("x = ║\n")
    assert editor.texts() == ["pass"]
    editor.configure(disabledLanguages=["python"])
    assert editor.texts() == []
    assert "midfill.disabledLanguages" in editor.why()
    editor.configure(disabledGlobs=["/project/**/main.py"])
    assert editor.texts() == []
    editor.configure(enable=False)
    assert editor.texts() == []
    editor.session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Inactive")
    other = ScriptedService()
    other.answer("elsewhere")
    editor.configure(endpoint=other.url)
    assert editor.texts() == ["elsewhere"]
    other.stop()


def test_wrong_value_is_logged_to_the_editor(editor: Editor) -> None:
    editor.configure(debounceMs="fast")
    said = editor.session.wait_notification("window/logMessage")
    assert said["message"].startswith("midfill.debounceMs: expected integer")


def test_a_misspelt_variable_is_logged_to_the_editor(server_env: dict[str, str], service: ScriptedService) -> None:
    with Session.start(env={**server_env, "MIDFILL_TOKN": "sk-1", "MIDFILL_LISTEN": "8443"}) as session:
        session.initialize(endpoint=service.url)
        said = session.wait_notification("window/logMessage")
        assert said["message"] == "MIDFILL_TOKN: it is ignored; is MIDFILL_TOKEN meant?"


def test_toggle_switches_off_and_on(editor: Editor) -> None:
    editor.open("x = ║\n")
    assert editor.session.command("midfill.toggle") is False
    assert editor.texts() == []
    assert editor.session.command("midfill.toggle") is True
    assert editor.texts() == ["pass"]


def test_settings_are_pulled_from_editors_that_keep_them(server_env: dict[str, str], service: ScriptedService) -> None:
    asked = []

    def settings(params: dict) -> list[dict]:
        asked.append(params["items"])
        return [{"endpoint": service.url, "mode": "block", "askAhead": False}]

    with Session.start(env={**server_env, "MIDFILL_TOKEN": "sk-1"}) as session:
        session.answers["workspace/configuration"] = settings
        capabilities = {
            "workspace": {"configuration": True, "didChangeConfiguration": {"dynamicRegistration": True}},
            "notebookDocument": {"synchronization": {}},
        }
        result = session.initialize(("utf-8", "utf-16"), capabilities, endpoint="http://127.0.0.1:1", maxTokens=9)
        session.wait_notification("client/registerCapability")
        session.wait_notification("workspace/configuration")
        session.wait_notification("didChangeStatus")
        assert asked == [[{"section": "midfill"}]]
        assert result["capabilities"]["positionEncoding"] == "utf-8"
        assert result["capabilities"]["inlineCompletionProvider"] == {}
        uri = "file:///a.py"
        session.open(uri, "s = 'é😀'; x = \n")
        position = len("s = 'é😀'; x = ".encode())
        item = session.complete(uri, 0, position)[0]
        assert item["range"]["start"]["character"] == position
        body = service.completions[0].body
        assert (body["prompt"], body["mode"], body["max_tokens"]) == ("s = 'é😀'; x = ", "block", 9)
        assert service.completions[0].headers["authorization"] == "bearer sk-1"

        cell = "vscode-notebook-cell:/project/nb.ipynb#W1"
        document = {"uri": cell, "languageId": "python", "version": 1, "text": "y = "}
        notebook = {
            "uri": "file:///project/nb.ipynb", "notebookType": "jupyter-notebook", "version": 1,
            "cells": [{"kind": 2, "document": cell}],
        }  # fmt: skip
        session.notify("notebookDocument/didOpen", {"notebookDocument": notebook, "cellTextDocuments": [document]})
        assert session.complete(cell, 0, 4)[0]["insertText"] == "pass"
        assert service.completions[1].body["path"] == "nb.ipynb"
        text = {"document": {"uri": cell, "version": 2}, "changes": [{"range": {"start": {"line": 0, "character": 4}, "end": {"line": 0, "character": 4}}, "text": "z"}]}  # fmt: skip  # noqa: E501
        change = {
            "notebookDocument": {"uri": notebook["uri"], "version": 2},
            "change": {"cells": {"textContent": [text]}},
        }
        session.notify("notebookDocument/didChange", change)
        session.complete(cell, 0, 5)
        assert service.completions[2].body["prompt"] == "y = z"


def test_nothing_is_started_by_default_while_the_editor_is_asked_again(
    server_env: dict[str, str], service: ScriptedService, tmp_path: Path
) -> None:
    """Editors that tell of a change right after the start are asked twice; the first answer is out of date then."""
    with Session.start(env={**server_env, "XDG_STATE_HOME": str(tmp_path)}) as session:
        session.answers["workspace/configuration"] = lambda params: [{"endpoint": service.url}]
        session.initialize(capabilities={"workspace": {"configuration": True}})
        session.notify("workspace/didChangeConfiguration", {"settings": None})
        session.open("file:///a.py", "x = ")
        # Only now are both questions read and answered.
        assert session.complete("file:///a.py", 0, 4)[0]["insertText"] == "pass"
        assert {status["message"] for status in session.notifications("didChangeStatus")} == {""}
    assert not list(tmp_path.rglob("local-*")), "a local service was started"


def test_who_types_before_the_editor_has_told_its_settings_is_answered_by_them(
    server_env: dict[str, str], service: ScriptedService
) -> None:
    with Session.start(env=server_env) as session:
        session.answers["workspace/configuration"] = lambda params: [{"endpoint": service.url}]
        session.initialize(capabilities={"workspace": {"configuration": True}})
        session.open("file:///a.py", "x = ")
        asked = session.ask("file:///a.py", 0, 4, kind=AUTOMATIC)
        # Only now is the server's question read and answered.
        assert session.wait(asked)["items"][0]["insertText"] == "pass"

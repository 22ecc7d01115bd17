"""The process as editors see it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.lsp_server.conftest import Editor
from tests.lsp_server.loopback import PATIENT_S
from tests.lsp_server.session import ROOT, Session


def test_ends_with_the_editor(server_env: dict[str, str]) -> None:
    session = Session.start(env=server_env)
    session.initialize(endpoint="http://127.0.0.1:1")
    assert session.close() == 0
    orphan = Session.start(env=server_env)
    orphan.initialize(endpoint="http://127.0.0.1:1")
    orphan.process.stdin.close()
    assert orphan.process.wait(PATIENT_S) == 0


def test_stays_small(editor: Editor) -> None:
    editor.open("x = ║\n")
    editor.items()
    status = Path(f"/proc/{editor.session.process.pid}/status").read_text()
    resident_kb = int(status.split("VmRSS:")[1].split()[0])
    assert resident_kb < 60 * 1024


def test_nothing_heavy_is_loaded_before_the_first_answer() -> None:
    code = (
        "import sys, lsp_server.server; "
        "print([m for m in ('httpx', 'torch', 'inference_service', 'training', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_log_file_is_found_by_command(editor: Editor, state_home: Path) -> None:
    assert editor.session.command("midfill.showLog") == str(state_home / "midfill" / "lsp.log")


def test_survives_messages_that_make_no_sense(editor: Editor) -> None:
    session = editor.session
    session.notify(
        "textDocument/didChange", {"textDocument": {"uri": "file:///no", "version": 1}, "contentChanges": []}
    )
    change = {
        "range": {"start": {"line": 0, "character": 0}, "end": {"line": 0, "character": 0}},
        "text": "x",
    }
    document = {"uri": "file:///never/opened", "version": 2}
    session.notify("textDocument/didChange", {"textDocument": document, "contentChanges": [change]})
    session.notify("midfill/unknown", {"a": 1})
    session.cancel(987654)
    editor.open("x = ║\n")
    assert editor.texts() == ["pass"]
    assert session.notifications("window/showMessage") == []

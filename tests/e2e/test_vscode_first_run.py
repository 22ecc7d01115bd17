"""What somebody meets who installs the .vsix into an untouched VS Code: everything real, bundled model included."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.e2e.local_services import end_local_service
from tests.e2e.vscode_editor import CodeServer, chromium
from tests.e2e.waiting import wait_for

# Beginnings that any model trained on Python goes on with; which of them, and how, is the model's business.
BEGINNINGS = [
    ("import os\n\n\ndef read_text(path):\n", "    with open(pa"),
    ("class Point:\n    def __init__(self, x, y):\n", "        self."),
    ("import json\n\n\ndef load(path):\n    with open(path) as f:\n", "        return json."),
]


@pytest.mark.timeout(600)
def test_install_open_type_accept(tmp_path: Path) -> None:
    """No settings, and of Midfill nothing on the PATH: a Python that has the service is found there."""
    programs = tmp_path / "bin"
    programs.mkdir()
    python = programs / "python3"
    python.write_text(f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
    python.chmod(0o755)
    others = [folder for folder in os.environ["PATH"].split(os.pathsep) if not Path(folder, "midfill-lsp").exists()]
    server = CodeServer(tmp_path / "profile", {}, path=os.pathsep.join([str(programs), *others]))
    try:
        with chromium() as browser:
            window = server.window(browser, status="Midfill")
            window.page.get_by_text("Completions from your own machines").first.wait_for()
            window.page.wait_for_timeout(2000)  # it takes the keyboard once more when it is loaded
            window.screenshot("walkthrough")
            shown = ""
            for number, (text, typed) in enumerate(BEGINNINGS):
                path = window.open(f"unseen_{number}.py", text, line=text.count("\n"))
                window.wait_for_status("ready", timeout=180)
                window.type(typed)
                try:
                    shown = wait_for("ghost text", window.ghost, timeout=40)
                    break
                except AssertionError:
                    continue
            assert shown, f"nothing was shown for any beginning; {window.status()}"
            window.screenshot("first-run")
            window.press("Tab")
            window.press("Control+s")
            # Brackets that VS Code has closed by itself may lie between the parts of what is shown.
            wait_for("the accepted text on the disk", lambda: typed + shown[0] in path.read_text())
            assert not [text for text in window.notifications() if "rror" in text]
    finally:
        server.close()
        end_local_service(server.folder)

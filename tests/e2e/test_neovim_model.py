"""The real Neovim with everything real: plugin, language server, embedded service, bundled model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.local_services import end_local_service
from tests.e2e.neovim_editor import Editor, setup
from tests.e2e.waiting import wait_for

# Beginnings that any model trained on Python goes on with; which of them, and how, is the model's business.
BEGINNINGS = [
    ("import os\n\n\ndef read_text(path):\n\n", "    with open(pa"),
    ("class Point:\n    def __init__(self, x, y):\n\n", "        self."),
    ("import json\n\n\ndef load(path):\n    with open(path) as f:\n\n", "        return json."),
]


@pytest.mark.timeout(600)
def test_the_bundled_model_completes_and_accept_writes_it(tmp_path: Path) -> None:
    editor = Editor(tmp_path / "neovim", setup(keymaps={"accept": "<Tab>"}))
    try:
        editor.open("warm.txt", "\n", line=0)
        ready = wait_for(
            "the embedded service", lambda: re.fullmatch("midfill( !.*)?", editor.statusline()), timeout=180
        )
        assert ready[0] == "midfill", "the embedded service did not start"
        shown = ""
        for number, (text, typed) in enumerate(BEGINNINGS):
            path = editor.open(f"unseen_{number}.py", text, line=text.count("\n") - 1)
            editor.keys(typed)
            try:
                shown = wait_for("ghost text", editor.ghost, timeout=40)
                break
            except AssertionError:
                continue
        assert shown, f"nothing was shown for any beginning; messages: {editor.messages()!r}"
        before = "\n".join(editor.lines()) + "\n"
        editor.keys("<Tab>")
        wait_for("the ghost text to be accepted", lambda: "\n".join(editor.lines()) + "\n" != before)
        editor.save()
        # The cursor was at the end of the text: what was shown is what came after it.
        assert path.read_text() == before.removesuffix("\n") + shown + "\n"
    finally:
        editor.close()
        end_local_service(editor.folder)

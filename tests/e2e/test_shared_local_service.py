"""Two Neovims, or two windows of VS Code on one folder, and the local service with the bundled model: one service for
both, and it is gone after them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.local_services import end_local_service, local_service
from tests.e2e.neovim_editor import Editor, setup
from tests.e2e.vscode_editor import chromium, code_server
from tests.e2e.waiting import wait_for


@pytest.mark.timeout(600)
def test_two_editors_share_one_local_service(tmp_path: Path) -> None:
    init = setup(localIdleMinutes=0)
    first, second = Editor(tmp_path, init), Editor(tmp_path, init)
    try:
        for number, editor in enumerate((first, second)):
            editor.open(f"shared_{number}.py", "\n", line=0)
        for editor in (first, second):
            wait_for("the local service", lambda editor=editor: editor.statusline() == "midfill", timeout=180)
        record = local_service(tmp_path)
        assert record is not None
        hosts = [p for p in Path("/proc").glob("[0-9]*") if runs_host(p, tmp_path)]
        assert [int(host.name) for host in hosts] == [record.pid]
        first.close()
        second.keys("x")
        assert local_service(tmp_path) == record, "the other editor still needs it"
        second.close()
        wait_for("the service to end", lambda: local_service(tmp_path) is None)
    finally:
        end_local_service(tmp_path)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_two_windows_on_one_folder_share_one_local_service(tmp_path: Path) -> None:
    try:
        with chromium() as browser, code_server(tmp_path / "vscode") as server:
            windows = [server.window(browser, f"start_{number}.py") for number in range(2)]
            home = server.folder
            record = local_service(home)
            assert record is not None
            assert [int(p.name) for p in Path("/proc").glob("[0-9]*") if runs_host(p, home)] == [record.pid]
            for number, window in enumerate(windows):
                window.open(f"file_{number}.py", "import os\n\n\nclass Point:\n", line=4)
                window.type("    def __init__(self, x, y):\n        self.x = ")
                wait_for("ghost text", window.ghost)
            windows[0].page.close()
            windows[1].press("Enter")
            windows[1].type("        self.y = ")
            wait_for("ghost text in the window that is left", windows[1].ghost)
            assert local_service(home) == record
            assert "rror" not in str(windows[1].notifications())
    finally:
        end_local_service(tmp_path / "vscode")


def runs_host(process: Path, home: Path) -> bool:
    """Whether this is the process that keeps the service of `home`."""
    try:
        command = (process / "cmdline").read_bytes().decode().split("\0")
    except OSError:
        return False
    return "lsp_server.local_host" in command and str(home / "state" / "midfill") in command

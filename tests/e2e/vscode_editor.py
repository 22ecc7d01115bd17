"""Drives a real VS Code (code-server in a headless Chromium) with the packed extension in it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from deploy.cluster.processes import free_port, service_environment
from tests.e2e.waiting import wait_for
from tests.programs import program, tool
from tests.vsix import built_vsix

REPO = Path(__file__).parents[2]

# What would talk to the network, cover the editor, or type by itself.
QUIET = {
    "chat.disableAIFeatures": True,
    "chat.commandCenter.enabled": False,
    "editor.autoClosingBrackets": "never",
    "editor.autoClosingQuotes": "never",
    "editor.autoIndent": "none",
    "editor.cursorBlinking": "solid",
    "editor.minimap.enabled": False,
    "editor.quickSuggestions": {"other": "off"},
    "editor.wordBasedSuggestions": "currentDocument",
    "extensions.autoCheckUpdates": False,
    "extensions.autoUpdate": False,
    "extensions.ignoreRecommendations": True,
    "files.autoSave": "off",
    "files.hotExit": "off",
    "git.enabled": False,
    "telemetry.telemetryLevel": "off",
    "update.mode": "none",
    "workbench.enableExperiments": False,
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.startupEditor": "none",
    "workbench.tips.enabled": False,
}
GHOST = """() => {
  const editor = document.querySelector('.notebookOverlay .monaco-editor.focused')
    ?? document.querySelector('.editor-group-container.active .editor-instance');
  if (!editor) return '';
  const all = (selector) => [...editor.querySelectorAll(selector)].map((e) => e.textContent.replaceAll('\\u00a0', ' '));
  const inline = all('.view-lines .ghost-text-decoration, .view-lines .ghost-text-decoration-preview').join('');
  return [inline, ...all('.suggest-preview-text .view-line, .suggest-preview-text > .ghost-text')].join('\\n');
}"""
NOTE_STATUSES = r"""() => {
  const noted = window.midfillStatuses = [];
  const note = () => {
    const item = document.querySelector('#midfill\\.midfill\\.midfill\\.status a');
    const said = item?.getAttribute('aria-label') ?? '';
    if (said !== noted.at(-1)) noted.push(said);
  };
  const changes = { attributes: true, childList: true, subtree: true };
  new MutationObserver(note).observe(document.querySelector('.part.statusbar'), changes);
}"""


class Window:
    """One VS Code window. What a method returns is what the user sees."""

    def __init__(self, page: Page, workspace: Path) -> None:
        self.page = page
        self.workspace = workspace

    def open(self, name: str, text: str, line: int = 1, column: int = 0) -> Path:
        """Opens a new file through quick open and puts the cursor on a 0-based line and column."""
        path = self.workspace / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode())
        self.quick_open(path, f":{line + 1}:{column + 1}")
        self.page.wait_for_selector(".editor-group-container.active .monaco-editor.focused")
        wait_for("the cursor", lambda: self.cursor() == (line + 1, column + 1))
        return path

    def quick_open(self, path: Path, place: str = "") -> None:
        self.press("Control+p")
        self.page.locator(".quick-input-widget input").first.fill(f"{path}{place}")
        # Before it has looked for the path, the list holds the files that were open lately.
        self.page.locator(".quick-input-list .monaco-list-row.focused", has_text=path.name).wait_for()
        self.press("Enter")
        self.page.wait_for_selector(f'.tab.active[data-resource-name="{path.name}"]')

    def focus_editor(self) -> None:
        """Puts the keyboard back into the active editor, at its end."""
        self.page.locator(".editor-group-container.active .view-lines").first.click()
        self.press("Control+End")

    def command(self, title: str) -> None:
        """Runs a command from the palette, by its whole title."""
        self.page.keyboard.press("F1")
        self.page.locator(".quick-input-widget input").first.fill(f">{title}")
        row = ".quick-input-list .monaco-list-row"
        self.page.locator(f'{row}[aria-label="{title}"], {row}[aria-label^="{title},"]').first.click()

    def pick(self, label: str) -> None:
        """Chooses an entry of the list that is open."""
        self.page.locator(".quick-input-list .monaco-list-row", has_text=label).first.click()

    def answer(self, title: str, text: str) -> None:
        """Fills the input box of this title."""
        self.page.locator(".quick-input-title", has_text=title).wait_for()
        box = self.page.locator(".quick-input-widget input").first
        box.fill(text)
        box.press("Enter")

    def type(self, text: str, delay_ms: int = 30) -> None:
        self.page.keyboard.type(text, delay=delay_ms)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def ghost(self) -> str:
        """The ghost text, with its lines joined by newlines."""
        return str(self.page.evaluate(GHOST)).rstrip("\n")

    def wait_for_ghost(self, expected: str) -> None:
        wait_for(f"the ghost text {expected!r}; {self.status()}", lambda: self.ghost() == expected)

    def ghost_within(self, seconds: float) -> set[str]:
        """Everything that was shown as ghost text in the next seconds."""
        end, seen = time.monotonic() + seconds, set()
        while time.monotonic() < end:
            seen.add(self.ghost())
        return seen

    def cursor(self) -> tuple[int, int] | None:
        """1-based line and column, as the status bar tells them."""
        label = self.page.locator("#status\\.editor\\.selection a").first.inner_text()
        match = re.search(r"Ln (\d+), Col (\d+)", label)
        return (int(match[1]), int(match[2])) if match else None

    def saved(self, path: Path) -> str:
        """The file's text after saving, line ends as they are on disk."""
        self.press("Control+s")
        self.page.wait_for_selector(".tab.active:not(.dirty)")
        return path.read_bytes().decode()

    def status(self) -> str:
        """What the status bar item says."""
        item = self.page.locator("#midfill\\.midfill\\.midfill\\.status a").first
        return (item.get_attribute("aria-label") or "") if item.count() else ""

    def note_statuses(self) -> None:
        """Keep what the status bar item says from now on, for `noted_statuses`: some of it stays for a second only."""
        self.page.evaluate(NOTE_STATUSES)

    def noted_statuses(self) -> list[str]:
        return list(self.page.evaluate("window.midfillStatuses"))

    def status_icon(self) -> str:
        """The name of the icon beside it."""
        icon = self.page.locator("#midfill\\.midfill\\.midfill\\.status .codicon").first
        match = re.search(r"codicon-([\w-]+)", icon.get_attribute("class") or "")
        return match[1] if match else ""

    def wait_for_status(self, pattern: str, timeout: float = 120.0) -> None:
        end, seen = time.monotonic() + timeout, self.status()
        while not re.search(pattern, seen):
            assert time.monotonic() < end, f"timed out waiting for the status {pattern!r}; last seen: {seen!r}"
            time.sleep(0.05)
            seen = self.status()

    def click_status(self) -> None:
        self.page.locator("#midfill\\.midfill\\.midfill\\.status a").first.click()

    def notifications(self) -> list[str]:
        return self.page.locator(".notification-toast").all_inner_texts()

    def webview(self) -> str:
        """The text of the page that the active editor shows, such as a Markdown preview."""
        frames = [frame for frame in self.page.frames if "fake.html" in frame.url or frame.name == "active-frame"]
        return "\n".join(frame.locator("body").inner_text() for frame in frames)

    def screenshot(self, name: str) -> None:
        """Keeps a picture where `MIDFILL_SCREENSHOTS` says, if it does."""
        if folder := os.environ.get("MIDFILL_SCREENSHOTS"):
            self.page.wait_for_timeout(500)  # until nothing fades in any more
            self.page.screenshot(path=Path(folder) / f"vscode-{name}.png")


class CodeServer:
    """code-server with a profile of its own under `folder`. Unless it `trusts` them, workspaces are restricted."""

    def __init__(self, folder: Path, settings: dict[str, Any], path: str | None = None, trusts: bool = True) -> None:
        self.folder = folder
        self.workspace = folder / "project"
        self.workspace.mkdir(parents=True)
        self.settings_file = folder / "user" / "User" / "settings.json"
        self.settings_file.parent.mkdir(parents=True)
        if settings:
            self.settings_file.write_text(json.dumps(settings))
        self._base = [
            tool("vscode/bin/code-server", "tools/install_vscode.sh .tools/vscode"),
            *("--config", str(folder / "config.yaml")),
            *("--user-data-dir", str(folder / "user")),
            *("--extensions-dir", str(folder / "extensions")),
        ]
        self._environment = {
            **service_environment({}),
            **{f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "STATE", "CACHE")},
            "HOME": str(folder),
            **({"PATH": path} if path else {}),
        }
        if path:  # VS Code takes the environment of a login shell, which sets a PATH of its own
            (folder / ".profile").write_text(f"export PATH='{path}'\n")
        self._run("--install-extension", str(built_vsix()))
        self.url = f"http://127.0.0.1:{free_port()}"
        self._log = (folder / "code-server.log").open("wb")
        self._process = subprocess.Popen(
            [
                *(*self._base, "--auth", "none", "--bind-addr", self.url.removeprefix("http://")),
                *("--disable-telemetry", "--disable-update-check", "--disable-getting-started-override"),
                *("--disable-proxy", *(["--disable-workspace-trust"] if trusts else [])),
            ],
            env=self._environment,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        wait_for("code-server", self._is_up, timeout=120)

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()

    def window(
        self, browser: Browser, file: str | None = None, status: str = "ready", workspace: Path | None = None
    ) -> Window:
        """A new window with the workspace, a folder or a `.code-workspace`, and a new, empty `file` open in it; waits
        for the extension's status. Who types into the first editor of a window right away may be too early for VS Code
        itself, so a `file` helps."""
        workspace = workspace or self.workspace
        page = browser.new_page(viewport={"width": 1100, "height": 640})
        page.set_default_timeout(60_000)
        query = {"folder" if workspace.is_dir() else "workspace": str(workspace)}
        if file is not None:
            path = (workspace if workspace.is_dir() else workspace.parent) / file
            path.touch()
            remote = f"vscode-remote://{self.url.removeprefix('http://')}{path}"
            query["payload"] = json.dumps([["openFile", remote]])
        page.goto(f"{self.url}/?{urllib.parse.urlencode(query)}")
        page.wait_for_selector(".monaco-workbench .explorer-folders-view", timeout=120_000)
        window = Window(page, workspace)
        window.wait_for_status(status, timeout=180)
        return window

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([*self._base, *arguments], env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def _is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False


@contextmanager
def code_server(folder: Path, trusts: bool = True, **settings: Any) -> Iterator[CodeServer]:
    """A running code-server with `QUIET` and the given `midfill.*` settings."""
    ours = {f"midfill.{key}": value for key, value in settings.items()}
    running = CodeServer(folder, {**QUIET, "midfill.python": sys.executable, **ours}, trusts=trusts)
    try:
        yield running
    finally:
        running.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium."""
    executable = program("chromium", "chromium")
    arguments = [
        *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments, timeout=120_000)
        yield browser
        browser.close()

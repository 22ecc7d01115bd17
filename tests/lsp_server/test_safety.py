"""Which files are left alone, and that the editor is told why."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lsp_server.documents import Document, Snapshot, snapshot
from lsp_server.safety import LARGEST_CHARS, FileRules
from lsp_server.settings import Settings
from tests.lsp_server.conftest import Editor
from tests.lsp_server.scripted_service import ScriptedService
from tests.lsp_server.session import Session
from tests.lsp_server.test_cache import Clock


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with ignore files."""
    root = tmp_path / "project"
    (root / ".git").mkdir(parents=True)
    (root / "src" / "deep").mkdir(parents=True)
    (root / ".gitignore").write_text("*.log\n/build/\n")
    (root / ".midfillignore").write_text("customers.py\n")
    (root / "src" / ".gitignore").write_text("!kept.log\n")
    (root / "src" / "deep" / ".midfillignore").write_text("*\n!open.py\n")
    return root


def refusal(file: Path, *folders: Path, settings: Settings = Settings(), text: str = "x = 1\n") -> str | None:  # noqa: B008
    return FileRules(Clock()).refusal(request_in(file.as_uri(), text), [f.as_posix() for f in folders], settings)


def request_in(uri: str, text: str) -> Snapshot:
    """A request at the end of `text`."""
    document = Document(uri, text, 1, "python")
    return snapshot(document, document.client_position_at_offset(len(text)), [])


@pytest.mark.parametrize(
    ("file", "by"),
    [
        ("main.py", None),
        ("a.log", ".gitignore"),
        ("build/x.py", ".gitignore"),
        ("src/build/x.py", None),
        ("src/a.log", ".gitignore"),
        ("src/kept.log", None),
        ("customers.py", ".midfillignore"),
        ("src/customers.py", ".midfillignore"),
        ("src/deep/a.py", ".midfillignore"),
        ("src/deep/open.py", None),
    ],
)
@pytest.mark.parametrize("roots", [["."], ["src", "."], []], ids=["repository", "folder in it", "none"])
def test_ignore_files(project: Path, file: str, by: str | None, roots: list[str]) -> None:
    said = refusal(project / file, *(project / root for root in roots))
    assert (said is None) if by is None else (said is not None and said.startswith(f"{by} names the file"))


@pytest.mark.parametrize("worktree", [False, True], ids=["repository", "worktree"])
def test_what_is_excluded_here_alone_is_ignored_too(tmp_path: Path, worktree: bool) -> None:
    """With real git, which writes and reads `.git/info/exclude`."""
    folder = tmp_path / "main"
    git("init", "-q", str(folder))
    git("-C", str(folder), "commit", "-q", "--allow-empty", "-m", "first")
    (folder / ".git" / "info" / "exclude").write_text("scratch.py\nkept.py\n")
    if worktree:
        folder = tmp_path / "other"
        git("-C", str(tmp_path / "main"), "worktree", "add", "-q", str(folder))
    (folder / ".gitignore").write_text("!kept.py\n")
    said = refusal(folder / "src" / "scratch.py", folder)
    assert said is not None and said.startswith(".git/info/exclude names the file")
    assert refusal(folder / "kept.py", folder) is None and refusal(folder / "main.py", folder) is None


def git(*arguments: str) -> None:
    author = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com")
    subprocess.run(["git", *author, *arguments], check=True)


@pytest.mark.parametrize(
    ("target", "says"), [(".env.production", ".env*"), ("customers.py", ".midfillignore"), ("main.py", None)]
)
def test_a_link_is_what_it_leads_to(project: Path, target: str, says: str | None) -> None:
    (project / target).write_text("x = 1\n")
    (project / "src" / "settings.py").symlink_to(project / target)
    said = refusal(project / "src" / "settings.py", project)
    assert said is None if says is None else says in str(said)


def test_a_workspace_behind_a_link_is_like_any_other(project: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project)
    assert refusal(tmp_path / "link" / "main.py", tmp_path / "link") is None
    assert refusal(tmp_path / "link" / "customers.py", tmp_path / "link") is not None


def test_a_setting_allows_an_ignored_file_again(project: Path) -> None:
    settings = Settings(disabled_globs=("!customers.py",))
    assert refusal(project / "customers.py", project, settings=settings) is None
    assert refusal(project / "a.log", project, settings=settings) is not None


def test_changed_ignore_files_count(project: Path) -> None:
    clock = Clock()
    rules = FileRules(clock)

    def said() -> str | None:
        return rules.file_refusal((project / "notes.py").as_uri(), [project.as_posix()], Settings())

    assert said() is None
    (project / ".gitignore").write_text("notes.py\n")
    clock.now += 60
    assert said() is not None
    (project / ".gitignore").unlink()
    clock.now += 60
    assert said() is None


def test_useless_ignore_file_is_no_error(project: Path) -> None:
    (project / ".gitignore").write_bytes(b"\xff\xfe\x00[\n!!\n\\\n*.log\n")
    assert refusal(project / "a.py", project) is None
    (project / ".gitignore").unlink()
    (project / ".gitignore").mkdir()
    assert refusal(project / "a.py", project) is None


def test_nothing_outside_of_the_open_folders(project: Path, tmp_path: Path) -> None:
    outside = tmp_path / "other.py"
    assert "outside" in str(refusal(outside, project))
    assert refusal(outside) is None, "no folder is open: a single file"
    assert refusal(outside, project, settings=Settings(outside_workspace=True)) is None
    assert FileRules(Clock()).refusal(request_in("untitled:Untitled-1", "x"), [str(project)], Settings()) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x" * (LARGEST_CHARS + 1), "larger than"),
        ("GIF89a\0\0", "binary"),
        ("var a=1;" * 1000, "minified"),
        ("x = 1\n" * 200_000, None),
    ],
    ids=["huge", "binary", "minified", "long"],
)
def test_content(project: Path, text: str, says: str | None) -> None:
    said = refusal(project / "a.js", project, text=text)
    assert said is None if says is None else says in str(said)


def test_the_editor_is_told_and_the_state_follows_the_file(editor: Editor) -> None:
    editor.open("KEY=║\n", ".env", "dotenv")
    assert editor.items(kind=1) == [], "not even by hand"
    said = editor.session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Inactive")
    assert "never sent" in said["message"]
    assert editor.service.completions == []
    assert "never sent" in editor.why()
    editor.open("x = ║\n")
    assert editor.texts() == ["pass"]
    assert editor.session.notifications("didChangeStatus")[-1]["kind"] == "Normal"


def test_focus_alone_tells(editor: Editor) -> None:
    uri = "file:///project/tls.key"
    editor.session.open(uri, "", "plaintext")
    editor.session.notify("textDocument/didFocus", {"textDocument": {"uri": uri}})
    editor.session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Inactive")
    editor.session.notify("textDocument/didFocus", {"textDocument": {"uri": "file:///project/a.py"}})
    editor.session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Normal")


def test_the_state_is_that_of_the_file_that_is_looked_at(server_env: dict[str, str], service: ScriptedService) -> None:
    """In an editor that tells the focus, before or after it opens the file."""

    def focus(uri: str) -> None:
        session.notify("textDocument/didFocus", {"textDocument": {"uri": uri}})

    def state() -> str:
        session.command("midfill.showLog")  # answers come in order
        return str(session.notifications("didChangeStatus")[-1]["kind"])

    notes, code, key = (f"file:///project/{name}" for name in ("a.md", "a.py", "tls.key"))
    with Session.start(env=server_env) as session:
        session.initialize(endpoint=service.url, disabledLanguages=["markdown"])
        focus(notes)
        assert state() == "Normal", "its language is not known yet"
        session.open(notes, "", "markdown")
        assert state() == "Inactive"
        session.open(code, "")
        assert state() == "Inactive", "it was opened behind the other"
        focus(code)
        assert state() == "Normal"
        focus(notes)
        assert state() == "Inactive"
        session.configure(endpoint=service.url, disabledLanguages=[])
        assert state() == "Normal"
        session.configure(endpoint=service.url, disabledLanguages=["*"])
        assert state() == "Inactive"
        session.notify("textDocument/didClose", {"textDocument": {"uri": notes}})
        assert state() == "Normal"
        session.open(key, "")
        focus(key)
        assert state() == "Inactive"


def test_where_no_focus_is_told_the_file_opened_last_counts(
    server_env: dict[str, str], service: ScriptedService
) -> None:
    with Session.start(env=server_env) as session:
        session.initialize(endpoint=service.url, disabledLanguages=["markdown"])
        session.open("file:///project/a.md", "", "markdown")
        session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Inactive")
        session.messages.clear()
        session.open("file:///project/a.py", "")
        session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Normal")

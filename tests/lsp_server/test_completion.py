"""What an editor gets when it asks for a completion, through a real server process."""

from __future__ import annotations

import threading
import time

import pytest

from tests.lsp_server.conftest import Editor
from tests.lsp_server.scripted_service import Reply
from tests.lsp_server.session import AUTOMATIC, INVOKED, RpcError
from tests.tries import tries


def test_completion_is_one_item_at_the_cursor_with_its_id(editor: Editor) -> None:
    editor.service.answer("urn a", " + b")
    editor.open("def add(a, b):\n    ret║\n")
    at = {"line": 1, "character": 7}
    assert editor.items() == [
        {
            "insertText": "urn a + b",
            "range": {"start": at, "end": at},
            "command": {
                "title": "Completion accepted",
                "command": "midfill.accepted",
                "arguments": ["cmpl-1"],
            },
        }
    ]


def test_request_carries_the_contract(editor: Editor) -> None:
    editor.configure(requestTimeoutMs=5000)
    editor.open("def add(a, b):\n    ret║\n\nprint()\n")
    editor.items()
    call = editor.service.completions[0]
    session = call.body.pop("session")
    assert call.body == {
        "prompt": "def add(a, b):\n    ret",
        "suffix": "\n\nprint()\n",
        "path": "main.py",
        "language": "python",
        "mode": "line",
        "max_tokens": 128,
        "temperature": 0,
        "deadline_ms": 4500,
        "stream": True,
    }
    assert call.headers["x-midfill-session"] == session
    assert call.headers["x-request-id"]
    assert "authorization" not in call.headers
    editor.type("u")
    editor.items()
    assert editor.service.completions[1].body["session"] == session


def test_nothing_to_say_is_an_empty_list(editor: Editor) -> None:
    editor.service.answer("   \n ")
    editor.open("x = ║\n")
    assert editor.session.wait(editor.ask()) == {"items": []}


def test_unopened_document_is_an_empty_list(editor: Editor) -> None:
    assert editor.session.complete("file:///nowhere/at/all.py", 3, 4) == []


def test_automatic_request_waits_for_the_debounce_and_invoked_does_not(editor: Editor) -> None:
    editor.configure(debounceMs=600)
    editor.open("x = ab║\n")
    asked = time.monotonic()
    request = editor.ask(AUTOMATIC)
    editor.service.wait(lambda: editor.service.completions)
    assert time.monotonic() - asked >= 0.55
    editor.session.wait(request)
    editor.configure(debounceMs=5000)
    for number in tries():
        editor.open("x = ab║\n", f"{number}.py")
        asked = time.monotonic()
        editor.items(INVOKED)
        if time.monotonic() - asked < 5:
            break


def test_a_service_that_is_full_is_asked_after_a_longer_pause(editor: Editor) -> None:
    editor.configure(debounceMs=100)
    editor.service.replies.append(Reply(status=429))
    editor.open("x = ab║\n")
    editor.ask()
    editor.service.wait(lambda: editor.service.completions)
    editor.open("y = ab║\n", "other.py")
    asked = time.monotonic()
    editor.items(AUTOMATIC)
    assert time.monotonic() - asked >= 0.28  # three to four times as long; the longest wait is 0.3 s
    assert len(editor.service.completions) == 2


def test_typing_through_a_completion_asks_nobody(editor: Editor) -> None:
    editor.configure(debounceMs=5000)
    editor.service.answer("urn a + b")
    editor.open("def add(a, b):\n    ret║\n")
    assert editor.texts() == ["urn a + b"]
    for typed, rest in (("u", "rn a + b"), ("rn", " a + b"), (" a", " + b")):
        editor.type(typed)
        asked = time.monotonic()
        items = editor.items(AUTOMATIC)
        assert time.monotonic() - asked < 4.5, "a hit must not be debounced"
        assert [i["insertText"] for i in items] == [rest]
        assert items[0]["range"]["start"] == {"line": 1, "character": editor.character}
        assert items[0]["command"]["arguments"] == ["cmpl-1"]
    assert len(editor.service.completions) == 1


def test_newer_request_of_another_text_aborts_the_http_request_of_the_older(editor: Editor) -> None:
    editor.service.replies.append(Reply(("slow", "ly"), held=threading.Event(), ahead=1))
    editor.service.answer("quick")
    editor.open("x = ║\n")
    older = editor.ask()
    editor.service.wait(lambda: editor.service.completions)
    editor.round_trip()
    editor.type("q")
    newer = editor.ask()
    try:
        assert editor.session.wait(older) == {"items": []}
    except RpcError as error:
        assert error.code == -32800
    assert editor.session.wait(newer)["items"][0]["insertText"] == "quick"
    editor.service.wait(lambda: editor.service.completions[0].gone_after is not None)


def test_requests_of_different_documents_do_not_disturb_each_other(editor: Editor) -> None:
    release = threading.Event()
    editor.service.answer("1", held=release)
    editor.open("x = ║\n", "one.py")
    one = editor.ask()
    editor.open("y = ║\n", "two.py")
    two = editor.ask()
    editor.service.wait(lambda: len(editor.service.completions) == 2)
    release.set()
    assert [len(editor.session.wait(r)["items"]) for r in (one, two)] == [1, 1]
    sessions = {call.body["session"] for call in editor.service.completions}
    assert len(sessions) == 2


@pytest.mark.parametrize("ahead", [0, 1], ids=["waiting", "streaming"])
def test_cancel_request_aborts_the_http_request(editor: Editor, ahead: int) -> None:
    editor.service.replies.append(Reply(("a", "b"), held=threading.Event(), ahead=ahead))
    editor.open("x = ║\n")
    request = editor.ask()
    editor.service.wait(lambda: editor.service.completions)
    editor.round_trip()
    editor.session.cancel(request)
    with pytest.raises(RpcError) as caught:
        editor.session.wait(request)
    assert caught.value.code == -32800
    editor.service.wait(lambda: editor.service.completions[0].gone_after is not None)


def test_cancel_during_the_debounce_sends_nothing(editor: Editor) -> None:
    editor.configure(debounceMs=400)
    for number in tries():
        editor.service.calls.clear()
        editor.open("x = ab║\n", f"{number}.py")
        asked = time.monotonic()
        request = editor.ask(AUTOMATIC)
        editor.session.cancel(request)
        with pytest.raises(RpcError):
            editor.session.wait(request)
        if time.monotonic() - asked < 0.4:
            break
    time.sleep(0.6)
    assert editor.service.completions == []


def test_closing_the_document_cancels_its_request(editor: Editor) -> None:
    editor.service.answer("x", delay=30)
    editor.open("x = ║\n")
    request = editor.ask()
    editor.service.wait(lambda: editor.service.completions)
    editor.session.notify("textDocument/didClose", {"textDocument": {"uri": editor.uri}})
    with pytest.raises(RpcError) as caught:
        editor.session.wait(request)
    assert caught.value.code == -32800


@pytest.mark.parametrize("whole", [True, False], ids=["notebook", "cell"])
def test_closing_a_notebook_or_taking_a_cell_out_cancels_its_request(editor: Editor, whole: bool) -> None:
    editor.service.answer("x", delay=30)
    notebook, cell = (
        f"file:///project/{editor.name}/nb.ipynb",
        f"vscode-notebook-cell:/project/{editor.name}/nb.ipynb#1",
    )
    named = {"uri": notebook, "version": 1}
    kept = {"kind": 2, "document": cell}
    document = {"uri": cell, "languageId": "python", "version": 1, "text": "x = "}
    opened = {**named, "notebookType": "jupyter-notebook", "cells": [kept]}
    editor.session.notify("notebookDocument/didOpen", {"notebookDocument": opened, "cellTextDocuments": [document]})
    request = editor.session.ask(cell, 0, 4, 1)
    editor.service.wait(lambda: editor.service.completions)
    structure = {"array": {"start": 0, "deleteCount": 1}, "didClose": [{"uri": cell}]}
    if whole:
        closed = {"notebookDocument": {"uri": notebook}, "cellTextDocuments": [{"uri": cell}]}
        editor.session.notify("notebookDocument/didClose", closed)
    else:
        change = {"notebookDocument": named, "change": {"cells": {"structure": structure}}}
        editor.session.notify("notebookDocument/didChange", change)
    with pytest.raises(RpcError) as caught:
        editor.session.wait(request)
    assert caught.value.code == -32800


def test_matching_characters_typed_meanwhile_shorten_the_answer(editor: Editor) -> None:
    release = threading.Event()
    editor.service.answer("return a", held=release)
    editor.open("def f(a):\n    ║\n")
    request = editor.ask()
    editor.service.wait(lambda: editor.service.completions)
    editor.type("ret")
    editor.round_trip()
    release.set()
    item = editor.session.wait(request)["items"][0]
    at = {"line": 1, "character": 7}
    assert (item["insertText"], item["range"]) == ("urn a", {"start": at, "end": at})


@pytest.mark.parametrize("edit", ["other", "above", "below", "below, same length"])
def test_any_other_change_meanwhile_drops_the_answer(editor: Editor, edit: str) -> None:
    release = threading.Event()
    editor.service.answer("return a", held=release)
    editor.open("def f(a):\n    ║\n\nold\n")
    request = editor.ask()
    editor.service.wait(lambda: editor.service.completions)
    if edit == "other":
        editor.type("x")
    elif edit == "below, same length":
        word = {"start": {"line": 3, "character": 0}, "end": {"line": 3, "character": 3}}
        editor.session.change(editor.uri, {"range": word, "text": "new"})
    else:
        editor.session.insert(editor.uri, 0 if edit == "above" else 2, 0, "# new\n")
    editor.round_trip()
    release.set()
    assert editor.session.wait(request) == {"items": []}
    assert "on its way" in editor.why()


def test_bracket_of_the_editor_is_replaced_not_doubled(editor: Editor) -> None:
    editor.service.answer("a, b)")
    editor.open("print(║)\n")
    item = editor.items(AUTOMATIC)[0]
    assert item["insertText"] == "a, b)"
    assert item["range"] == {"start": {"line": 0, "character": 6}, "end": {"line": 0, "character": 7}}


@pytest.mark.parametrize(("marked", "asked"), [("foo(║)", 1), ("d = {'a': x[║]},\n", 1), ("a ║+ b", 0), ("f(║x)", 0)])
def test_no_automatic_request_in_the_middle_of_a_line(editor: Editor, marked: str, asked: int) -> None:
    editor.open(marked)
    editor.items(AUTOMATIC)
    assert len(editor.service.completions) == asked
    if not asked:
        editor.items(INVOKED)
        assert len(editor.service.completions) == 1, "by hand it works everywhere"
        assert any("middle of a line" in line for line in editor.session.command("midfill.doctor").splitlines())


@pytest.mark.parametrize(
    ("marked", "mode"),
    [
        ("def f():\n    ║\n", "block"),
        ("x = 1\n║\n", "block"),
        ("x = 1\n    ║\n", "line"),
        ("def f():║\n", "line"),
        ("call(\n    ║)", "line"),
        ("fn main() {\n\n    ║\n}", "block"),
    ],
)
def test_line_or_block_follows_the_cursor(editor: Editor, marked: str, mode: str) -> None:
    editor.open(marked)
    editor.items()
    assert editor.service.completions[0].body["mode"] == mode


@pytest.mark.parametrize("file", [".env", ".env.local", "deploy/server.pem", "id_rsa", ".aws/credentials", "a.tfvars"])
def test_files_that_hold_secrets_never_leave(editor: Editor, file: str) -> None:
    editor.open("PASSWORD=║\n", file, "plaintext")
    assert editor.items(INVOKED) == []
    assert editor.service.completions == []
    assert "never sent" in editor.why()


def test_crlf_and_emoji_arrive_as_the_model_knows_them(editor: Editor) -> None:
    editor.service.answer("y\n    z")
    editor.open("s = '😀é'\r\nif x:\r\n    ║\r\nend\r\n")
    item = editor.items()[0]
    body = editor.service.completions[0].body
    assert (body["prompt"], body["suffix"]) == ("s = '😀é'\nif x:\n    ", "\nend\n")
    assert item["insertText"] == "y\n    z"
    assert item["range"]["start"] == {"line": 2, "character": 4}


def test_unicode_line_separators_in_file_and_answer_are_no_line_ends(editor: Editor) -> None:
    editor.service.answer("'a\u2028b\x85c'")
    editor.open("a = '\u2028\x0c'\nb = ║\n")
    assert editor.texts() == ["'a\u2028b\x85c'"]
    assert editor.service.completions[0].body["prompt"] == "a = '\u2028\x0c'\nb = "


def test_unpaired_surrogates_and_long_names_do_not_make_a_request_invalid(editor: Editor) -> None:
    editor.open("a = '\ud800'\nb = ║\n", "deep/" * 400 + "x.py", "l" * 99)
    assert editor.texts() == ["pass"]
    body = editor.service.completions[0].body
    assert body["prompt"] == "a = '\ufffd'\nb = "
    assert len(body["path"]) <= 1024 and len(body["language"]) == 64


def test_untitled_buffer(editor: Editor) -> None:
    uri = "untitled:Untitled-1"
    editor.session.open(uri, "x = ")
    assert editor.session.complete(uri, 0, 4)[0]["insertText"] == "pass"
    assert editor.service.completions[0].body["path"] == "Untitled-1"


def test_what_the_model_is_not_sure_of_is_shown_on_demand_only(editor: Editor) -> None:
    """exp(-1.6) is 20 %, below the default of 30."""
    editor.service.default = Reply(("urn a",), mean_logprob=-1.6)
    editor.open("def add(a, b):\n    ret║\n")
    assert editor.texts(AUTOMATIC) == []
    assert "20%" in editor.why() and "midfill.minConfidence" in editor.why()
    assert editor.texts(INVOKED) == ["urn a"]


def test_the_confidence_asked_for_is_a_setting_and_no_figure_means_shown(editor: Editor) -> None:
    editor.configure(minConfidence=10)
    editor.service.default = Reply(("urn a",), mean_logprob=-1.6)
    editor.open("def add(a, b):\n    ret║\n")
    assert editor.texts(AUTOMATIC) == ["urn a"]
    editor.configure(minConfidence=100)
    editor.service.default = Reply(("urn b",), mean_logprob=None)
    assert editor.texts(AUTOMATIC) == ["urn b"]

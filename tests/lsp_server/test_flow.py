"""What the server does between two keystrokes: requests that are kept, given up, made in advance, or not made."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest

from lsp_server.completer import PATIENCE_S
from lsp_server.load import Load
from lsp_server.stream import GRACE_S
from tests.lsp_server.conftest import Editor
from tests.lsp_server.scripted_service import Reply
from tests.lsp_server.session import AUTOMATIC, RpcError
from tests.lsp_server.test_cache import Clock
from tests.tries import tries


def ended(editor: Editor, request: int) -> bool:
    """Whether an older request got nothing: an empty list, or -32800."""
    try:
        return editor.session.wait(request) == {"items": []}
    except RpcError as error:
        return error.code == -32800


def texts(editor: Editor, request: int) -> list[str]:
    """The completion texts that a request got."""
    return [item["insertText"] for item in editor.session.wait(request)["items"]]


def test_a_request_in_progress_answers_the_next_keystroke(editor: Editor) -> None:
    release = threading.Event()
    editor.service.replies.append(Reply(("ret", "urn a"), held=release, ahead=1))
    editor.open("def f(a):\n    ║\n")
    older = editor.ask(AUTOMATIC)
    editor.service.wait(lambda: editor.service.completions)
    editor.round_trip()
    editor.type("re")
    newer = editor.ask(AUTOMATIC)
    assert ended(editor, older)
    release.set()
    assert texts(editor, newer) == ["turn a"]
    assert len(editor.service.completions) == 1


def test_also_when_the_editor_cancels_first_as_vs_code_does(editor: Editor) -> None:
    for number in tries():
        release = threading.Event()
        editor.service.calls.clear()
        editor.service.replies.append(Reply(("return a",), held=release))
        editor.open("def f(a):\n    ║\n", f"{number}.py")
        older = editor.ask(AUTOMATIC)
        editor.service.wait(lambda: editor.service.completions)
        cancelled = time.monotonic()
        editor.session.cancel(older)
        editor.type("r")
        newer = editor.ask(AUTOMATIC)
        editor.session.command("midfill.showLog")  # answered, so the server has taken in what came before
        release.set()
        shown = texts(editor, newer)
        if time.monotonic() - cancelled < min(GRACE_S, PATIENCE_S):
            break
    assert shown == ["eturn a"]
    assert ended(editor, older)
    assert len(editor.service.completions) == 1


def test_a_request_that_goes_another_way_is_aborted_at_the_keystroke_that_tells(editor: Editor) -> None:
    editor.service.replies.append(Reply(("return", " a"), held=threading.Event(), ahead=1))
    editor.open("def f(a):\n    ║\n")
    older = editor.ask(AUTOMATIC)
    editor.service.wait(lambda: editor.service.completions)
    editor.round_trip()
    editor.type("x")
    editor.service.wait(lambda: editor.service.completions[0].gone_after is not None)
    assert ended(editor, older)
    assert editor.texts(AUTOMATIC) == ["pass"]


def test_a_service_that_has_fallen_into_a_loop_is_stopped(editor: Editor) -> None:
    piece = "{self.name} "
    editor.service.replies.append(Reply(('f"', *[piece] * 100, "x"), held=threading.Event(), ahead=101))
    editor.open("x = ║\n")
    assert editor.texts(AUTOMATIC) == []
    editor.service.wait(lambda: editor.service.completions[0].gone_after is not None)
    editor.service.wait(lambda: [call.method for call in editor.service.calls if "cmpl-" in call.path] == ["DELETE"])
    # Who goes on typing it does not need to ask for it again.
    editor.type('f"{se')
    assert editor.texts(AUTOMATIC) == []
    assert len(editor.service.completions) == 1
    assert "repetition" in editor.why()


def test_a_service_is_stopped_as_soon_as_nothing_more_of_its_block_can_be_shown(editor: Editor) -> None:
    more = threading.Event()
    editor.service.replies.append(Reply(("a(b)", "\n    c(d)", "\n    c(d)", "\n    e(f)"), held=more, ahead=3))
    editor.open("def f():\n    ║\n")
    assert editor.texts(AUTOMATIC) == ["a(b)\n    c(d)"]
    editor.service.wait(lambda: editor.service.completions[0].gone_after is not None)


def test_what_was_broken_off_is_hidden_where_the_model_was_not_sure_of_it(editor: Editor) -> None:
    editor.service.answer("a(b)", "\n    c(d)", "\n    c(d)", "\n    e(f)", mean_logprob=-1.6)
    editor.open("def f():\n    ║\n")
    assert editor.texts(AUTOMATIC) == []
    assert "not sure" in editor.why()


def test_lines_before_a_loop_are_shown(editor: Editor) -> None:
    editor.service.answer("a = 1\n", *["    b = 2\n"] * 60)
    editor.open("def f():\n    ║\n")
    assert editor.texts(AUTOMATIC) == ["a = 1\n    b = 2"]


def test_a_request_without_any_text_is_not_waited_for_long(editor: Editor) -> None:
    editor.service.replies.append(Reply(("return a",), held=threading.Event()))
    editor.open("def f(a):\n    ║\n")
    editor.ask(AUTOMATIC)
    editor.service.wait(lambda: editor.service.completions)
    editor.type("r")
    assert editor.texts(AUTOMATIC) == ["pass"]
    editor.service.wait(lambda: editor.service.completions[0].gone_after is not None)


def test_what_is_known_to_be_nothing_is_not_asked_again(editor: Editor) -> None:
    editor.service.answer("")
    editor.open("x = ║\n")
    assert editor.texts(AUTOMATIC) == editor.texts(AUTOMATIC) == []
    assert len(editor.service.completions) == 1
    assert "nothing to add" in editor.why()


def test_indentation_is_asked_for_once(editor: Editor) -> None:
    editor.service.answer("return a")
    editor.open("def f(a):║\n")
    editor.session.insert(editor.uri, 0, 9, "\n")
    editor.line, editor.character = 1, 0
    assert editor.texts(AUTOMATIC) == ["    return a"]
    assert editor.service.completions[0].body["prompt"] == "def f(a):\n    "
    for rest in ("   return a", "  return a", " return a", "return a"):
        editor.type(" ")
        assert editor.texts(AUTOMATIC) == [rest]
    assert len(editor.service.completions) == 1


def test_indentation_that_was_deleted_is_not_wanted(editor: Editor) -> None:
    editor.service.answer("")
    editor.open("if a:\n    b()\n    ║\n")
    editor.texts(AUTOMATIC)
    deleted = {"start": {"line": 2, "character": 0}, "end": {"line": 2, "character": 4}}
    editor.session.change(editor.uri, {"range": deleted, "text": ""})
    editor.service.answer("c()")
    editor.character = 0
    assert editor.texts(AUTOMATIC) == ["c()"]
    assert editor.service.completions[-1].body["prompt"] == "if a:\n    b()\n"


def test_nobody_asks_again_within_a_word_that_the_model_was_not_sure_of(editor: Editor) -> None:
    editor.service.default = Reply(("total = 1",), mean_logprob=-1.6)
    editor.open("x\n║\n")
    for typed in ("", "t", "ot", "al"):
        editor.type(typed)
        assert editor.texts(AUTOMATIC) == []
    assert len(editor.service.completions) == 2, "at the start, and after the word"


def displayed(editor: Editor) -> str:
    """The completion, after the server was told that it is on display: it believes whoever has told that once."""
    [item] = editor.items(AUTOMATIC)
    editor.session.notify("textDocument/didShowCompletion", {"item": item})
    return str(item["insertText"])


def test_the_sequel_of_what_is_not_likely_is_not_asked_for(editor: Editor) -> None:
    editor.configure(askAhead=True)
    editor.service.default = Reply(("total = a + b",), mean_logprob=-0.9)
    editor.open("def add(a, b):\n    ║\n")
    assert displayed(editor) == "total = a + b"
    time.sleep(0.8)
    assert len(editor.service.completions) == 1


def test_the_sequel_of_a_displayed_completion_is_there_after_tab(editor: Editor) -> None:
    editor.configure(askAhead=True)
    editor.service.replies.extend([Reply(("total = a + b",)), Reply(("return total",))])
    editor.open("def add(a, b):\n    ║\n")
    assert displayed(editor) == "total = a + b"
    editor.service.wait(lambda: len(editor.service.completions) == 2)
    ahead = editor.service.completions[1].body
    assert ahead["prompt"] == "def add(a, b):\n    total = a + b\n    "
    assert (ahead["mode"], ahead["priority"]) == ("block", 10)
    editor.round_trip()
    editor.type("total = a + b")
    assert editor.texts(AUTOMATIC) == ["\n    return total"]
    assert len(editor.service.completions) == 2


def test_a_sequel_that_is_still_on_its_way_is_waited_for(editor: Editor) -> None:
    release = threading.Event()
    editor.configure(askAhead=True)
    editor.service.replies.extend([Reply(("total = a + b",)), Reply(("return total",), held=release)])
    editor.open("def add(a, b):\n    ║\n")
    displayed(editor)
    editor.service.wait(lambda: len(editor.service.completions) == 2)
    editor.type("total = a + b")
    asked = editor.ask(AUTOMATIC)
    editor.round_trip()
    release.set()
    assert texts(editor, asked) == ["\n    return total"]
    assert len(editor.service.completions) == 2


def test_a_sequel_is_aborted_when_something_else_is_typed(editor: Editor) -> None:
    editor.configure(askAhead=True)
    editor.service.replies.extend([Reply(("total = a + b",)), Reply(("return total",), held=threading.Event())])
    editor.open("def add(a, b):\n    ║\n")
    displayed(editor)
    editor.service.wait(lambda: len(editor.service.completions) == 2)
    editor.type("x")
    editor.service.wait(lambda: editor.service.completions[1].gone_after is not None)


@pytest.mark.parametrize("status", [429, 503])
def test_a_service_that_is_full_is_not_asked_in_advance(editor: Editor, status: int) -> None:
    editor.configure(askAhead=True)
    editor.service.replies.extend([Reply(status=status), Reply(("total = a",))])
    editor.open("x = 1\ny = ║\n")
    editor.texts()
    editor.type("t")
    assert editor.texts() == ["total = a"]
    time.sleep(0.6)
    assert len(editor.service.completions) == 2


def test_load_is_what_the_service_says() -> None:
    clock = Clock()
    load = Load(clock)
    load.queued(5)
    assert load.free
    load.queued(50)
    assert not load.free
    clock.now = 11
    assert load.free
    load.refused(40)
    clock.now = 50
    assert not load.free
    clock.now = 52
    assert load.free


def test_answers_are_timed() -> None:
    clock = Clock()
    load = Load(clock)
    for _ in range(30):
        with load.timed():
            clock.now += 0.2
    assert load.answer_s == pytest.approx(0.2, rel=0.01)
    with contextlib.suppress(asyncio.CancelledError), load.timed():
        raise asyncio.CancelledError
    assert load.answer_s == pytest.approx(0.2, rel=0.01), "what was given up at once says nothing"


def test_lines_of_a_block_are_there_after_accepting_the_first(editor: Editor) -> None:
    editor.service.answer("total = a + b\n    return total")
    editor.open("def add(a, b):\n    ║\n")
    editor.items()
    editor.session.insert(editor.uri, 1, 4, "total = a + b\n    ")
    editor.line, editor.character = 2, 4
    assert editor.texts(AUTOMATIC) == ["return total"]
    assert len(editor.service.completions) == 1


def test_brackets_that_the_editor_closes_do_not_change_the_prompt(editor: Editor) -> None:
    """In the prompt the suffix stands first: were it sent with the bracket, nothing of it would be in the cache."""
    editor.open("print║\n\nend\n")
    editor.texts()
    editor.service.answer("a, b)")
    editor.session.insert(editor.uri, 0, 5, "()")
    editor.character += 1
    [item] = editor.items(AUTOMATIC)
    first, second = (call.body for call in editor.service.completions)
    assert first["suffix"] == second["suffix"] == "\n\nend\n"
    assert item["range"]["end"]["character"] - item["range"]["start"]["character"] == 1

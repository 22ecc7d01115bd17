"""Several completions for who asks by hand."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from lsp_server.choices import OTHERS_S
from lsp_server.doctor import outcomes_in_log
from tests.lsp_server.conftest import Editor
from tests.lsp_server.scripted_service import Reply
from tests.lsp_server.session import AUTOMATIC, INVOKED
from tests.tries import tries


def asked_for_others(editor: Editor) -> list[dict]:
    return [call.body for call in editor.service.calls if call.path == "/v1/completions" and "n" in call.body]


def by_hand(editor: Editor) -> list[dict]:
    """The items that somebody cycles through who asks by hand, on a machine that brings the others in time."""
    for _ in tries():
        asked = time.monotonic()
        items = editor.items(INVOKED)
        if time.monotonic() - asked < OTHERS_S:
            break
    return items


def texts_by_hand(editor: Editor) -> list[str]:
    return [item["insertText"] for item in by_hand(editor)]


def test_by_hand_there_are_several_to_cycle_through_and_each_is_there_once(editor: Editor) -> None:
    editor.service.answer("a + b")
    editor.service.others = ("a - b", "a + b", "a - b", "   ", "b")
    editor.open("x = ║\n")
    items = by_hand(editor)
    assert [item["insertText"] for item in items] == ["a + b", "a - b", "b"]
    assert len({str(item["range"]) for item in items}) == 1
    assert [item["command"]["arguments"] for item in items] == [["cmpl-1"], ["cmpl-others"], ["cmpl-others"]]
    others = asked_for_others(editor)[0]
    first = editor.service.completions[0].body
    assert (others["prompt"], others["suffix"], others["mode"]) == (first["prompt"], first["suffix"], first["mode"])
    assert others["n"] == 2 and others["temperature"] > 0 and not others["stream"]
    assert others["session"] != first["session"], "they must not end each other"


def test_what_comes_by_itself_is_one(editor: Editor) -> None:
    editor.service.others = ("something else",)
    editor.open("x = ║\n")
    assert editor.texts(AUTOMATIC) == ["pass"]
    assert asked_for_others(editor) == []


def test_the_completion_on_display_stays_the_first(editor: Editor) -> None:
    """Editors ask by hand when somebody begins to cycle."""
    editor.service.answer("a + b")
    editor.service.others = ("c",)
    editor.open("x = ║\n")
    assert editor.texts(AUTOMATIC) == ["a + b"]
    assert texts_by_hand(editor) == ["a + b", "c"]
    assert len(editor.service.completions) == 1


def test_each_can_be_typed_through(editor: Editor) -> None:
    editor.service.answer("order.total")
    editor.service.others = ("order.price",)
    editor.open("x = ║\n")
    assert texts_by_hand(editor) == ["order.total", "order.price"]
    for typed, rest in (("order.", "total"), ("p", "rice"), ("ri", "ce")):
        editor.type(typed)
        assert editor.texts(AUTOMATIC) == [rest]
    assert len(editor.service.completions) == 1


def test_brackets_of_the_editor_are_replaced_by_each(editor: Editor) -> None:
    editor.service.answer("a)")
    editor.service.others = ("a, b)", "c")
    editor.open("print(║)\n")
    ends = [item["range"]["end"]["character"] - 6 for item in by_hand(editor)]
    assert ends == [1, 1, 0]


def test_others_are_shown_where_the_likeliest_is_nothing(editor: Editor) -> None:
    editor.service.answer("")
    editor.service.others = ("a",)
    editor.open("x = ║\n")
    assert texts_by_hand(editor) == ["a"]


def test_the_doctor_tells_what_is_shown_and_not_what_became_of_the_likeliest(editor: Editor, state_home: Path) -> None:
    """In the editor, and in a terminal, which reads the log."""
    editor.service.answer("")
    editor.service.others = ("total",)
    editor.open("x = ║\n", "likeliest.py")
    assert texts_by_hand(editor) == ["total"]
    shown = "likeliest.py: shown (5 characters; not the likeliest, which was nothing)"
    report = editor.session.command("midfill.doctor")
    in_terminal = "\n".join(outcomes_in_log(state_home / "midfill" / "lsp.log"))
    for told in (report, in_terminal):
        assert [shown in line for line in told.splitlines() if "likeliest.py" in line] == [True], told


def test_what_was_typed_meanwhile_is_not_offered_again(editor: Editor) -> None:
    release = threading.Event()
    editor.service.replies.append(Reply(("return a",), held=release))
    editor.service.others = ("return b", "pass")
    editor.open("def f(a):\n    ║\n")
    request = editor.ask(INVOKED)
    editor.service.wait(lambda: editor.service.completions)
    editor.service.wait(lambda: asked_for_others(editor))
    editor.type("ret")
    editor.round_trip()
    release.set()
    assert [item["insertText"] for item in editor.session.wait(request)["items"]] == ["urn a", "urn b"]


def test_a_service_without_others_to_offer_costs_no_completion(editor: Editor) -> None:
    """Whether it says so or never answers."""
    for kept_waiting in (False, True):
        editor.service.keeps_others = kept_waiting
        editor.open("x = ║\n", f"{kept_waiting}.py")
        assert editor.texts(INVOKED) == ["pass"]
        assert asked_for_others(editor)
        editor.service.calls.clear()

"""The controls for people who want less."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lsp_server.power import Power, on_battery
from lsp_server.quiet import Quiet
from lsp_server.settings import Settings
from tests.lsp_server.conftest import Editor
from tests.lsp_server.session import AUTOMATIC, RpcError
from tests.lsp_server.test_cache import Clock
from tests.tries import tries


def test_manual_mode_answers_by_hand_only(editor: Editor) -> None:
    editor.configure(trigger="manual")
    editor.service.answer("pass")
    editor.open("x = ║\n")
    assert editor.texts(AUTOMATIC) == []
    assert "midfill.trigger" in editor.why()
    assert editor.texts() == ["pass"]
    editor.type("pa")
    assert editor.texts(AUTOMATIC) == ["ss"], "what was asked for can be typed through"


@pytest.mark.parametrize(
    ("languages", "shown"),
    [(["python"], False), (["*"], False), (["*", "!python"], True), (["!python", "*"], False), (["lua"], True)],
)
def test_languages(editor: Editor, languages: list[str], shown: bool) -> None:
    editor.configure(disabledLanguages=languages)
    editor.open("x = ║\n")
    assert bool(editor.texts(AUTOMATIC)) is shown


def test_tab_indents_in_leading_whitespace(editor: Editor) -> None:
    editor.open("if x:\n    ║)\n")
    assert editor.texts(AUTOMATIC) == []
    assert "Tab indents" in editor.why()
    assert editor.texts() != [], "by hand it is clear what is meant"


def test_empty_lines_can_be_left_to_tab_altogether(editor: Editor) -> None:
    editor.open("def f():\n    ║\n")
    assert editor.texts(AUTOMATIC) == ["pass"]
    editor.configure(leadingWhitespace=False)
    assert editor.texts(AUTOMATIC) == []
    assert "midfill.leadingWhitespace" in editor.why()


def test_short_completions(editor: Editor) -> None:
    editor.configure(minCharacters=4)
    editor.service.answer("abcd")
    editor.open("x = ║\n")
    assert editor.texts(AUTOMATIC) == ["abcd"]
    editor.type("ab")
    assert editor.texts(AUTOMATIC) == ["cd"], "what is on display stays down to its last character"
    editor.service.answer("abc")
    editor.open("y = ║\n", "too_short.py")
    assert editor.texts(AUTOMATIC) == []
    outcomes = [line for line in editor.session.command("midfill.doctor").splitlines() if " too_short.py: " in line]
    assert len(outcomes) == 1 and "midfill.minCharacters" in outcomes[0]
    assert editor.texts() == ["abc"]


async def test_show_delay_counts_from_the_keystroke_and_not_for_what_is_on_display() -> None:
    clock, slept = Clock(), []

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))

    with ThreadPoolExecutor(1) as executor:
        quiet = Quiet(clock, lambda: None, Power(clock, lambda: False, executor), sleep)
        settings = Settings(show_delay_ms=500)
        clock.now = 0.2
        assert await quiet.hold("a", "c1", "text", 0.0, settings) is None
        quiet.shown("a", "c1")
        assert await quiet.hold("a", "c1", "ext", 0.0, settings) is None
        assert await quiet.hold("a", "c2", "other", 0.0, settings) is None
        clock.now = 0.9
        assert await quiet.hold("a", "c3", "late", 0.0, settings) is None
    assert slept == [0.3, 0.3]


def test_a_completion_held_back_is_dropped_when_something_is_typed(editor: Editor) -> None:
    editor.configure(showDelayMs=400)
    for number in tries():
        editor.service.calls.clear()
        editor.open("x = ║\n", f"{number}.py")
        began = time.monotonic()
        asked = editor.ask(AUTOMATIC)
        editor.service.wait(lambda: editor.service.completions)
        editor.type("q")
        editor.session.command("midfill.showLog")  # answered, so what was typed has come
        if time.monotonic() - began < 0.4:
            break
        editor.session.wait(asked)
    assert editor.session.wait(asked)["items"] == []


def test_a_completion_held_back_ends_when_a_newer_request_comes(editor: Editor) -> None:
    editor.configure(showDelayMs=10_000)
    editor.open("x = ║\n")
    older = editor.ask(AUTOMATIC)
    editor.service.wait(lambda: editor.service.completions)
    editor.round_trip()
    assert editor.texts() == ["pass"]
    with pytest.raises(RpcError) as caught:
        editor.session.wait(older)
    assert caught.value.code == -32800


def test_snooze(editor: Editor) -> None:
    editor.open("x = ║\n")
    assert "snoozed until" in editor.session.command("midfill.snooze", 5)
    editor.session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Inactive" and "snoozed" in s["message"])
    assert editor.texts(AUTOMATIC) == []
    assert editor.texts() == ["pass"], "by hand works"
    assert editor.session.command("midfill.snooze", 0) == "not snoozed"
    assert editor.session.notifications("didChangeStatus")[-1]["kind"] == "Normal"
    assert editor.texts(AUTOMATIC) == ["pass"]
    assert "takes minutes" in editor.session.command("midfill.snooze", "soon")


def test_snooze_ends_by_itself(editor: Editor) -> None:
    editor.session.command("midfill.snooze", 0.005)
    editor.session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Inactive")
    editor.session.messages.clear()
    editor.session.wait_notification("didChangeStatus", lambda s: s["kind"] == "Normal")


def supply(folder: Path, **words: str) -> None:
    folder.mkdir(parents=True)
    for name, word in words.items():
        (folder / name).write_text(f"{word}\n")


def test_battery_on_linux(tmp_path: Path) -> None:
    assert on_battery(tmp_path / "none") is False
    supply(tmp_path / "hid-mouse", type="Battery", status="Discharging", scope="Device")
    assert on_battery(tmp_path) is False, "a mouse is not the computer"
    supply(tmp_path / "BAT0", type="Battery", status="Discharging")
    assert on_battery(tmp_path) is True
    supply(tmp_path / "AC", type="Mains", online="1")
    assert on_battery(tmp_path) is False


def test_pause_on_battery() -> None:
    clock, answers = Clock(), [True, False]
    with ThreadPoolExecutor(1) as executor:
        power = Power(clock, lambda: answers.pop(0), executor)
        quiet = Quiet(clock, lambda: None, power)
        on = Settings(pause_on_battery=True)
        quiet.paused(on)
        executor.submit(lambda: None).result()
        assert "midfill.pauseOnBattery" in str(quiet.paused(on))
        assert quiet.paused(Settings()) is None
        clock.now += 60
        quiet.paused(on)
        executor.submit(lambda: None).result()
        assert quiet.paused(on) is None

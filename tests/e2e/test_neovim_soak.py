"""Minutes of typing, accepting and undoing in the real Neovim: the buffer always holds what was meant.

`MIDFILL_SOAK_SECONDS` says for how long (two minutes if it is not set), `MIDFILL_SOAK_SEED` repeats a run.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.neovim_editor import Editor, setup
from tests.e2e.prompter import Prompter

SECONDS = float(os.environ.get("MIDFILL_SOAK_SECONDS", "120"))
ACCEPT = {"<Tab>": "all", "<F2>": "a word", "<F3>": "a line"}
TARGET = '''def sign(x):
    if x < 0:
        return -1
    return 1


def greet(names: list[str]) -> str:
    """Grüße für alle: 😀."""
    return ", ".join(f"<{name}>" for name in names if name)


class Account:
    def __init__(self, owner: str, balance: int = 0) -> None:
        self.owner = owner
        self.balance = balance

    def withdraw(self, amount: int) -> None:
        if amount > self.balance:
            raise ValueError(f"only {self.balance} left")
        self.balance -= amount
'''


@pytest.fixture
def service() -> Iterator[Prompter]:
    with Prompter() as running:
        yield running


class Typist:
    """Types `TARGET` into one file after the other; `done` characters of it are in the buffer."""

    def __init__(self, editor: Editor, service: Prompter, chance: random.Random) -> None:
        self.editor, self.service, self.chance = editor, service, chance
        self.counts = dict.fromkeys(["typed", "corrected", "accepted", "undone", "files"], 0)
        self.begin()

    def begin(self) -> None:
        self.counts["files"] += 1
        self.done = 0
        self.service.follow(TARGET, lines=self.chance.choice([1, 2, 4]))
        self.editor.open(f"soak_{self.counts['files']}.py", "", line=0)

    def step(self) -> None:
        """One thing that somebody does, and a look at the buffer."""
        if self.done == len(TARGET):
            self.begin()
        self.chance.choices([self.type, self.correct, self.accept, self.accept_and_undo], [6, 1, 3, 1])[0]()
        self.check(TARGET[: self.done])

    def type(self) -> None:
        text = TARGET[self.done : self.done + self.chance.randint(1, 6)]
        for character in text:
            self.editor.keys({"\n": "<CR>", "<": "<lt>"}.get(character, character))
            time.sleep(self.chance.choice([0, 0, 0.02, 0.2]))
        self.done += len(text)
        self.counts["typed"] += len(text)

    def correct(self) -> None:
        self.editor.keys("q")
        time.sleep(self.chance.choice([0, 0.1, 0.3]))
        self.editor.keys("<BS>")
        self.counts["corrected"] += 1

    def accept(self) -> bool:
        """Accepts some of what is shown within a second; False if nothing was."""
        end = time.monotonic() + 1
        while not self.editor.ghost():
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        key = self.chance.choice(list(ACCEPT))
        self.editor.keys(key)
        text = self.text()
        assert TARGET.startswith(text) and len(text) > self.done, f"after accepting {ACCEPT[key]}: {text!r}"
        self.done = len(text)
        self.counts["accepted"] += 1
        return True

    def accept_and_undo(self) -> None:
        before = self.done
        if self.accept():
            self.editor.keys("<Esc>u")
            self.check(TARGET[:before])
            self.editor.keys("GA")
            self.done = before
            self.counts["undone"] += 1

    def text(self) -> str:
        return "\n".join(self.editor.lines())

    def check(self, expected: str) -> None:
        text = self.text()
        assert text == expected, f"the buffer has {text!r} where {expected!r} was meant; so far {self.counts}"


@pytest.mark.full
@pytest.mark.timeout(SECONDS + 120)
def test_the_buffer_holds_what_was_meant(service: Prompter, tmp_path: Path) -> None:
    keys = {"accept": "<Tab>", "accept_word": "<F2>", "accept_line": "<F3>"}
    seed = int(os.environ.get("MIDFILL_SOAK_SEED", str(time.time_ns() % 100_000)))
    editor = Editor(tmp_path / "neovim", setup(endpoint=service.url, keymaps=keys, mode="block", debounceMs=30))
    try:
        typist = Typist(editor, service, random.Random(seed))
        print("seed", seed)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            typist.step()
        print(typist.counts)
        assert all(typist.counts.values()), typist.counts
        assert "Error" not in editor.messages()
    finally:
        editor.close()

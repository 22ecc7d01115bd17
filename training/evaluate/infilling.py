"""Infilling: holes of held-out code completed greedily, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from inference_service.model.gpt import GPT
from inference_service.model.tokenizer import Tokenizer
from training.corpus.filters import parses
from training.evaluate.decoding import Completion, Decoder
from training.evaluate.holes import Hole
from training.evaluate.stop_rules import StopRule, block_end, line_end, never

_LINE_BUDGET = 48


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of hole: how its completion ends and how many tokens it may take.

    `whole_file` tells that prefix, middle and suffix are a file that parses; `exact_blanks` that blanks at the end
    of the completion count.
    """

    name: str
    stop: Callable[[str], StopRule]  # of a prefix
    budget: int
    whole_file: bool = False
    exact_blanks: bool = False


REST_OF_LINE = Task("rest_of_line", lambda _: line_end, _LINE_BUDGET)
WHOLE_LINE = Task("whole_line", lambda _: line_end, _LINE_BUDGET)
MULTI_LINE = Task("multi_line", block_end, 96, whole_file=True)
RANDOM_SPAN = Task("random_span", lambda _: never, 64, whole_file=True, exact_blanks=True)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a hole. `ended`: by the model's end-of-text, within the budget. `parses`: the file with the
    completion in it. `saved`: characters, by `chars_saved`."""

    exact: bool
    ended: bool
    parses: bool
    saved: int
    tokens: int


def complete_all(decoder: Decoder, task: Task, holes: Iterable[Hole]) -> list[Outcome]:
    return [_judge(task, hole, _complete(decoder, task, hole)) for hole in holes]


def chars_saved(text: str, middle: str) -> int:
    """Characters that need not be typed if a completion is taken whenever its first line is exactly right.

    Those of its first lines that are right count, line breaks between them included, blanks at line ends aside.
    Nothing is taken off: neither for the lines after them, which somebody has to correct, nor for a completion that
    was shown and not taken.
    """
    right = []
    for line, wanted in zip(text.rstrip().split("\n"), middle.rstrip().split("\n"), strict=False):
        if line.rstrip() != wanted.rstrip():
            break
        right.append(wanted.rstrip())
    return len("\n".join(right))


class LineCompleter:
    """Greedy completion of holes up to the line's end, with one cache and vocabulary for all of them."""

    def __init__(self, model: GPT, tokenizer: Tokenizer) -> None:
        self._decoder = Decoder(model, tokenizer)

    def complete(self, hole: Hole) -> str:
        """The text that the model puts at the cursor."""
        return _complete(self._decoder, REST_OF_LINE, hole).text


def _complete(decoder: Decoder, task: Task, hole: Hole) -> Completion:
    return decoder.greedy(hole.path, hole.prefix, hole.suffix, task.stop(hole.prefix), task.budget)


def _judge(task: Task, hole: Hole, completion: Completion) -> Outcome:
    text, middle = completion.text, hole.middle
    return Outcome(
        exact=text == middle if task.exact_blanks else text.rstrip() == middle.rstrip(),
        ended=completion.ended,
        parses=task.whole_file and parses(hole.prefix + text + hole.suffix),
        saved=chars_saved(text, middle),
        tokens=completion.tokens,
    )

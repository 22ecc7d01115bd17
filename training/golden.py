"""Golden prompts: what a published model must still write wherever it is loaded."""

from __future__ import annotations

from inference_service.model.directory import LoadedModel
from inference_service.model.quantize import build_int8, int8_linear_works
from training.evaluate.holes import Hole
from training.evaluate.infilling import LineCompleter

_FEWEST = 3  # fewer would test little
_PROMPTS = [
    {"path": "app.py", "prefix": "import os\n\n\ndef main():\n    path = os.path.", "suffix": "\n    return path\n"},
    {"path": "shapes.py", "prefix": "class P:\n    def __init__(self, x, y):\n        self.x = ", "suffix": "\n"},
    {"path": "files.py", "prefix": "def read(path):\n    with open(path) as f:\n        ", "suffix": "\n"},
    {"path": "log.py", "prefix": "import logging\n\nlogger = logging.", "suffix": "\n"},
    {"path": "cache.py", "prefix": "class Cache:\n    def get(self, key):\n        if key in self.", "suffix": "\n"},
    {
        "path": "sums.py",
        "prefix": "def total(items):\n    result = 0\n    for item in ",
        "suffix": "\n    return result\n",
    },
    {"path": "errors.py", "prefix": "def check(value):\n    if value is None:\n        raise ", "suffix": "\n"},
    {"path": "main.py", "prefix": "def main():\n    pass\n\n\nif __name__ == ", "suffix": "\n    main()\n"},
]


class GoldenTestFailed(ValueError):
    """A model that says nothing, or not the same again; the message says to which prompts."""


def golden_texts(loaded: LoadedModel) -> list[dict[str, str]]:
    """Prompts with the text that the model puts there: those to which it says something, and the same with float and
    with int8 inputs, which some machines multiply. Raises GoldenTestFailed when there are fewer than three."""
    models = [loaded.build_float(), *([build_int8(loaded)] if int8_linear_works() else [])]
    completers = [LineCompleter(model, loaded.tokenizer) for model in models]
    golden = []
    for hole in _PROMPTS:
        texts = {completer.complete(Hole(middle="", **hole)) for completer in completers}
        if len(texts) == 1 and "" not in texts:
            golden.append(hole | {"text": texts.pop()})
    if len(golden) < _FEWEST:
        raise GoldenTestFailed(
            f"golden test: to {len(golden)} of {len(_PROMPTS)} prompts the model gives a text that is not empty "
            f"and the same with float and int8 inputs; {_FEWEST} are needed: train it longer"
        )
    return golden


def check_golden(loaded: LoadedModel) -> None:
    """Raises GoldenTestFailed unless a directory gives its golden texts."""
    completer = LineCompleter(loaded.build_float(), loaded.tokenizer)
    for golden in loaded.golden:
        text = completer.complete(Hole(golden["path"], golden["prefix"], "", golden["suffix"]))
        if text != golden["text"]:
            raise GoldenTestFailed(
                f"golden test: {loaded.path} gives {text!r} after {golden['prefix'][-20:]!r}, not {golden['text']!r}"
            )

"""`midfill-serve evaluate-live`: what a running service makes of held-out lines; meant to run once a day."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from inference_service.commands import CommandError
from inference_service.commands.arguments import add_database, database_setting, opened, parser
from inference_service.events.archive import Archive
from inference_service.settings import SettingsError
from inference_service.storage import location

_SHIPPED = Path(__file__).with_name("held_out.jsonl")
_MOST_LINES = 2000
_TRIES = 10
_LONGEST_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A cursor in code that the model has not seen: what stands around it, and the rest of its line."""

    prompt: str
    suffix: str
    expected: str


@dataclass(slots=True)
class Score:
    """Of one model version."""

    lines: int = 0
    exact: int = 0


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The exit code: 1 below the floor. Raises SettingsError, CommandError."""
    made = parser("evaluate-live", "Ask a running service for held-out lines; its key is taken from MIDFILL_TOKEN.")
    made.add_argument("--endpoint", default="http://127.0.0.1:8000", metavar="URL", help="default: %(default)s")
    made.add_argument("--held-out", metavar="FILE", help="lines {prompt, suffix, expected} of JSON; some are built in")
    made.add_argument("--floor", type=float, default=0.0, metavar="RATIO", help="alert below this exact match, 0 to 1")
    add_database(made)
    options = made.parse_args(arguments)
    if not 0 <= options.floor <= 1:
        raise SettingsError("--floor must be a number from 0 to 1")
    scores = ask(options.endpoint, environ.get("MIDFILL_TOKEN", ""), read(options.held_out))
    if location.of_service(database_setting(options, environ)):
        with opened(options, environ) as database:
            for version, score in scores.items():
                Archive(database).evaluated(version, score.lines, score.exact, options.floor)
    low = False
    for version, score in scores.items():
        ratio = score.exact / score.lines
        low |= ratio < options.floor
        print(f"version {version}: {score.exact} of {score.lines} lines exact ({ratio:.1%}, floor {options.floor:.1%})")
    return int(low)


def read(path: str | None) -> list[HeldOut]:
    """The held-out lines, those that ship without a path. Raises SettingsError with the number of a bad line."""
    try:
        lines = Path(path or _SHIPPED).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read --held-out {path}: {getattr(error, 'strerror', None) or error}") from None
    found = [_held_out(line, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not 1 <= len(found) <= _MOST_LINES:
        raise SettingsError(f"--held-out {path} must have 1 to {_MOST_LINES} lines, not {len(found)}")
    return found


def ask(endpoint: str, key: str, wanted: Sequence[HeldOut]) -> dict[str, Score]:
    """Exact matches by the version that answered, in the order of appearance. Raises CommandError."""
    exact: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=endpoint, headers=headers, timeout=60) as client:
        for item in wanted:
            answer = _complete(client, item)
            version = answer["midfill"]["model_version"]
            lines[version] += 1
            exact[version] += answer["choices"][0]["text"].split("\n", 1)[0].rstrip() == item.expected.rstrip()
    return {version: Score(count, exact[version]) for version, count in lines.items()}


def _complete(client: httpx.Client, item: HeldOut) -> Any:
    body = {
        "prompt": item.prompt,
        "suffix": item.suffix,
        "mode": "line",
        "max_tokens": 64,
        "temperature": 0,
        "priority": 100,  # after everybody who waits
    }
    for _ in range(_TRIES):
        try:
            answer = client.post("/v1/completions", json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CommandError(f"{client.base_url} does not answer ({type(error).__name__})") from None
        if answer.status_code not in (429, 503):
            break
        time.sleep(min(float(answer.headers.get("retry-after", 1)), _LONGEST_WAIT_S))
    try:
        if answer.status_code == 200 and answer.json()["midfill"]["model_version"]:
            return answer.json()
        said = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        said = "that is no Midfill service"
    raise CommandError(f"{client.base_url} answered {answer.status_code}: {said}")


def _held_out(line: str, number: int) -> HeldOut:
    try:
        value = json.loads(line)
        item = HeldOut(value["prompt"], value["suffix"], value["expected"])
        if all(isinstance(text, str) for text in (item.prompt, item.suffix, item.expected)) and item.expected.strip():
            return item
    except (ValueError, KeyError, TypeError):
        pass
    raise SettingsError(f"line {number} of the held-out file must be an object of the strings prompt, suffix, expected")

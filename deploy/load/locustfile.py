"""People who type, for Locust (`pip install 'midfill[load]'`):

    locust -f deploy/load/locustfile.py --headless --users 50 --spawn-rate 5 --run-time 5m --host http://127.0.0.1:8000

Each types a file again that exists, from somewhere within: a character at a time, with the pauses of a person, a look
around now and then, mistakes that are taken back, and jumps to other files. Where the fingers rest for as long as VS
Code waits a completion is asked for. Typing on before it is there hangs up, as an editor does; a right one is accepted
half of the time. The key is taken from MIDFILL_TOKEN. Beside Locust's own figures there are `first token`, `whole
completion` and `cancelled`.
"""
# ruff: noqa: S311 (chance makes a person here, not a secret)

from __future__ import annotations

import contextlib
import json
import os
import random
import sysconfig
import time
import uuid
from pathlib import Path

import gevent
from locust import HttpUser, events, task

WAIT_S = 0.05  # VS Code's own, which the default of midfill.debounceMs is shorter than
PREFIX_CHARS, SUFFIX_CHARS = 6000, 1500
DELETE, JUMP, LOOK, ACCEPT = 0.08, 0.01, 0.02, 0.5  # shares of keystrokes; ACCEPT of right completions

_FILES = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
_HEADERS = {"Authorization": f"Bearer {token}"} if (token := os.environ.get("MIDFILL_TOKEN")) else {}


@events.init_command_line_parser.add_listener
def _options(parser) -> None:
    parser.add_argument(
        "--files", default="", metavar="FOLDER", help="Python files to type; default: Python's own library"
    )
    parser.add_argument("--seed", type=int, default=0, help="of whom types what; 0 is another one each time")


@events.test_start.add_listener
def _start(environment, **_: object) -> None:
    options = environment.parsed_options
    if options.files:
        _FILES[:] = sorted(Path(options.files).rglob("*.py"))
    if not _FILES:
        raise SystemExit(f"no Python files in {options.files}")
    random.seed(options.seed or None)


def pause() -> float:
    """Seconds to the next key: 0.12 in the middle, one in a hundred above half a second; sometimes a look around."""
    return random.uniform(1, 4) if random.random() < LOOK else min(random.lognormvariate(-2.1, 0.6), 2)


class Typist(HttpUser):
    def wait_time(self) -> float:
        return pause()

    def on_start(self) -> None:
        self.client.headers.update(_HEADERS)
        self.client.trust_env = False
        self._asking: gevent.Greenlet | None = None
        self._open()

    def on_stop(self) -> None:
        self._type_on()

    @task
    def key(self) -> None:
        self._type_on()
        kind = random.random()
        if kind < JUMP:
            self._open()
        elif kind < JUMP + DELETE:
            self._typed = self._typed[:-1]  # a mistake, taken back; what stands after the cursor does not change
        else:
            self._typed += self._text[self._at : self._at + 1]
            self._at += 1
            if self._at >= len(self._text):
                self._open()
        self._asking = gevent.spawn(self._ask, self._typed)

    def _open(self) -> None:
        """Another file, from the end of one of its lines on."""
        self._text = random.choice(_FILES).read_text(encoding="utf-8", errors="replace")
        self._at = self._text.find("\n", random.randrange(max(1, len(self._text) // 2))) + 1
        self._typed = self._text[: self._at]
        self._session = uuid.uuid4().hex

    def _type_on(self) -> None:
        if self._asking is not None and not self._asking.ready():
            self._asking.kill()

    def _ask(self, typed: str) -> None:
        gevent.sleep(WAIT_S)
        body = {
            "prompt": typed[-PREFIX_CHARS:],
            "suffix": self._text[self._at : self._at + SUFFIX_CHARS],
            "language": "python",
            "path": "typed.py",
            "session": self._session,
            "mode": "line",
            "max_tokens": 32,
            "deadline_ms": 2000,
            "temperature": 0,
            "stream": True,
        }
        started = time.perf_counter()
        identifier, text = "", ""
        try:
            headers = {"X-Midfill-Session": self._session}
            answer = self.client.post("/v1/completions", json=body, headers=headers, stream=True, timeout=30)
            with contextlib.closing(answer):
                if answer.status_code != 200:
                    return
                for line in answer.iter_lines():
                    if line.startswith(b"data: {"):
                        chunk = json.loads(line[6:])
                        if not identifier:
                            self._report("first token", started)
                            identifier = chunk["id"]
                        text += chunk["choices"][0]["text"]
        except gevent.GreenletExit:
            self._report("cancelled", started)
            raise
        self._report("whole completion", started)
        if text:
            self._tell(identifier, "shown")
        if text and self._typed == typed and self._text.startswith(text, self._at) and random.random() < ACCEPT:
            self._tell(identifier, "accepted", len(text))
            self._typed += text
            self._at += len(text)

    def _tell(self, identifier: str, event: str, chars: int = 0) -> None:
        body = {"completion_id": identifier, "event": event, "accepted_chars": chars}
        self.client.post("/v1/events", json=body)

    def _report(self, name: str, started: float) -> None:
        milliseconds = (time.perf_counter() - started) * 1000
        self.environment.events.request.fire(
            request_type="typing", name=name, response_time=milliseconds, response_length=0, exception=None, context={}
        )

"""Programs that nobody has read: what they must not do, and that only a program which gets to its end passes."""

import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from training.evaluate.sandbox import open_sandbox

HOSTILE = {
    "fails its assertion": "assert 1 + 1 == 3",
    "does not parse": "def f(:",
    "leaves with success": "import os; os._exit(0)",
    "leaves with SystemExit": "raise SystemExit(0)",
    "computes for ever": "while True: pass",
    "sleeps for ever": "import time; time.sleep(1000)",
    "prints for ever": "while True: print('x' * 100_000)",
    "floods the answer": "import os\nfor n in range(3, 9):\n    try:\n        while True: os.write(n, b'x' * 65536)\n"
    "    except OSError: pass\nos._exit(0)",
    "takes all memory": "x = b'x' * (8 << 30)",
    "takes all memory slowly": "x = []\nwhile True: x.append(bytearray(1 << 24))",
    "writes a large file": "open('large', 'wb').write(bytes(1 << 26))",
    "starts processes for ever": "import os\nwhile True: os.fork()",
    "runs a command": "import subprocess; subprocess.run(['true'])",
    "closes everything": "import os; os.closerange(0, 64)",
    "crashes the interpreter": "import ctypes; ctypes.string_at(0)",
    "recurses for ever": "def f(): f()\nf()",
    "connects": "import socket; socket.create_connection(('127.0.0.1', PORT), 5)",
}


@pytest.fixture(scope="module")
def sandbox():
    return open_sandbox()


@pytest.fixture(scope="module")
def passed(sandbox):
    """Which of the hostile programs passed; they run side by side, for some take their whole time."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(6) as pool:
        port = str(server.getsockname()[1])
        running = {
            what: pool.submit(sandbox.passes, program.replace("PORT", port), cpu_seconds=1)
            for what, program in HOSTILE.items()
        }
        return {what for what, done in running.items() if done.result()}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_program_does_not_pass(sandbox, passed, what):
    if what == "connects" and not sandbox.no_network:
        assert "the network within reach" in sandbox.describe()
    else:
        assert what not in passed


def test_a_program_that_gets_to_its_end_passes(sandbox):
    program = "import collections, json, math, re, typing\nopen('note', 'w').write('é')\nassert math.pi > 3\n"
    assert sandbox.passes(program, cpu_seconds=5)


def test_files_of_others_stay_as_they_are(sandbox, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("kept")
    for folder in (victim, tmp_path):
        folder.chmod(0o777)
    attack = f"import os\nopen({str(victim)!r}, 'w').write('gone')\n"
    assert not sandbox.passes(attack, cpu_seconds=5) or not sandbox.fenced
    assert not sandbox.passes(f"import os\nos.remove({str(victim)!r})", cpu_seconds=5) or not sandbox.fenced
    assert not sandbox.fenced or victim.read_text() == "kept"


def test_nothing_of_our_environment_is_visible(sandbox, monkeypatch):
    monkeypatch.setenv("MIDFILL_API_KEY", "secret")
    assert sandbox.passes("import os\nassert 'MIDFILL_API_KEY' not in os.environ", cpu_seconds=5)


def test_the_folder_of_a_program_is_gone_afterwards(sandbox):
    def folders():
        return set(Path(tempfile.gettempdir()).glob("midfill-sandbox-*"))

    before = folders()
    program = "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').close()\nos.chmod('a', 0)"
    assert sandbox.passes(program, cpu_seconds=5)
    assert folders() == before

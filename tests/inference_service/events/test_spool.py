"""The spool alone: what it acknowledged is there after whatever happens."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_service.events.records import Completion, Event, from_line, language_of, to_line
from inference_service.events.spool import Spool, SpoolFull
from inference_service.settings import SettingsError

ROOT = Path(__file__).parents[3]


def event(number):
    return Event(f"cmpl-{number}", "team", "key", "shown", None, id=f"{number:032}")


def append(spool, line):
    """Wait until it is acknowledged; the problem, if any."""
    told = threading.Event()
    problems = []
    spool.append(line, lambda problem: (problems.append(problem), told.set()))
    assert told.wait(10)
    return problems[0]


def drained(spool):
    """Close, and the numbers of all events in it, in order."""
    spool.close()
    numbers = []
    while segment := spool.next_segment(0):
        lines = segment.read_bytes().splitlines(keepends=True)
        numbers += [int(row[1]["id"]) for line in lines if (row := from_line(line))]
        spool.remove(segment)
    spool.release()
    return numbers


def test_in_order_once_and_nothing_left_behind(tmp_path):
    spool = Spool(tmp_path / "spool", 1 << 20)
    for number in range(500):
        spool.append(to_line(event(number)))
    assert append(spool, to_line(event(500))) is None
    assert drained(spool) == list(range(501))
    assert list((tmp_path / "spool").iterdir()) == []


WRITER = """
import sys, pathlib, threading
sys.path.insert(0, sys.argv[2])
from inference_service.events.spool import Spool, SpoolFull
from inference_service.events.records import Event, to_line
spool = Spool(pathlib.Path(sys.argv[1]), 1 << 30)
if len(sys.argv) > 3:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
for number in range(100_000):
    line = to_line(Event(f"cmpl-{number}", "team", "key", "shown", None, id=f"{number:032}"))
    told = threading.Event()
    def done(problem, number=number, told=told):
        print(number if problem is None else f"refused {problem.strerror}", flush=True)
        told.set()
    spool.append(line, done)
    told.wait()
"""


def writer(folder, *more):
    command = [sys.executable, "-c", WRITER, str(folder), str(ROOT), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path):
    process = writer(tmp_path)
    acknowledged = [int(process.stdout.readline()) for _ in range(200)]
    living = Spool(tmp_path, 1 << 30)
    assert living.next_segment(0) is None, "the folder of a process that lives is its own"
    process.kill()
    acknowledged += [int(line) for line in process.stdout.read().splitlines()]
    living.adopt()
    found = drained(living)
    assert found[: len(acknowledged)] == acknowledged and len(found) - len(acknowledged) <= 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_refuses_and_what_was_accepted_stays_whole(tmp_path):
    process = writer(tmp_path, "20000")
    lines = [process.stdout.readline().strip() for _ in range(400)]
    process.kill()
    process.wait()
    refused = [line for line in lines if line.startswith("refused")]
    assert 100 < len(refused) < 390 and set(refused) == {"refused File too large"}
    accepted = [int(line) for line in lines if not line.startswith("refused")]
    found = drained(Spool(tmp_path, 1 << 30))
    assert set(accepted) <= set(found) and found == sorted(set(found))


def test_after_a_full_disk_it_goes_on(tmp_path):
    code = WRITER.replace("for number in range(100_000):", "for number in range(300):").replace(
        "    told.wait()\n",
        "    told.wait()\n"
        "    if number == 200: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, resource.RLIM_INFINITY))\n",
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(ROOT), "10000"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert any(line.startswith("refused") for line in lines[:201])
    assert lines[201:] == [str(number) for number in range(201, 300)]
    found = drained(Spool(tmp_path, 1 << 30))
    assert found == [int(line) for line in lines if not line.startswith("refused")]


def read_only(*_args, **_more):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


class FailingDisk:
    """`os` on a disk that has an error while it is written, after which file systems are read-only."""

    write = ftruncate = staticmethod(read_only)

    def __getattr__(self, name):
        return getattr(os, name)


def test_after_a_disk_that_failed_it_goes_on(tmp_path, monkeypatch):
    spool = Spool(tmp_path / "spool", 1 << 20)
    with monkeypatch.context() as failing:
        failing.setattr("inference_service.events.spool.os", FailingDisk())
        failing.setattr(Path, "unlink", read_only)
        for number in range(3):
            assert append(spool, to_line(event(number))).errno == errno.EROFS
    assert append(spool, to_line(event(3))) is None
    assert drained(spool) == [3]


def test_its_share_of_the_disk_is_bounded(tmp_path):
    spool = Spool(tmp_path, 2000)
    with pytest.raises(SpoolFull, match="limit"):
        for number in range(100):
            append(spool, to_line(event(number)))
    accepted = drained(spool)
    assert 5 < len(accepted) < 30
    again = Spool(tmp_path, 2000)
    assert append(again, to_line(event(1))) is None
    assert drained(again) == [1]


def test_several_threads_at_once(tmp_path):
    spool = Spool(tmp_path, 1 << 30)

    def write(first):
        for number in range(first, first + 100):
            append(spool, to_line(event(number)))

    threads = [threading.Thread(target=write, args=(first,)) for first in range(0, 800, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(drained(spool)) == list(range(800))


def test_a_segment_is_handed_out_soon_and_files_do_not_pile_up(tmp_path):
    spool = Spool(tmp_path, 1 << 30)
    end = time.monotonic() + 2.5
    number = 0
    while time.monotonic() < end:
        append(spool, to_line(event(number)))
        number += 1
        time.sleep(0.01)
    assert spool.next_segment(5) is not None
    assert len(list(tmp_path.rglob("*.jsonl"))) <= 2
    assert drained(spool) == list(range(number))


def test_what_else_lies_in_its_folder_is_left_alone(tmp_path):
    weights = tmp_path / "models" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_text("weights\n")
    (tmp_path / ("0" * 32)).mkdir()
    notes = tmp_path / ("0" * 32) / "notes.txt"
    notes.write_text("mine\n")
    spool = Spool(tmp_path, 1 << 20)
    assert append(spool, to_line(event(1))) is None
    assert drained(spool) == [1]
    assert (weights.read_text(), notes.read_text()) == ("weights\n", "mine\n")
    assert len(list(tmp_path.iterdir())) == 2, "no lock is left beside them either"


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="see --spool-dir"):
        Spool(tmp_path / "file" / "spool", 1 << 20)


@given(st.text(), st.text(), st.none() | st.integers(0, 1_000_000), st.integers(0, 300))
def test_a_line_is_read_as_written_or_not_at_all(completion_id, tenant, chars, cut):
    written = Event(completion_id.encode("utf-8", "replace").decode(), tenant, "key", "accepted", chars)
    line = to_line(written)
    assert line.count(b"\n") == 1
    table, row = from_line(line)
    assert table == "events" and row["completion_id"] == written.completion_id.replace("\0", "")
    assert (row["id"], row["accepted_chars"]) == (written.id, chars)
    torn = line[: min(cut, len(line) - 1)]
    assert from_line(torn) is None
    assert from_line(torn + b"\n") is None or torn == line[:-1]


def test_records_hold_no_field_for_code():
    kept = {*Event.__dataclass_fields__, *Completion.__dataclass_fields__}
    assert not kept & {"prompt", "suffix", "text", "path", "completion", "code"}


@pytest.mark.parametrize(
    ("named", "path", "language"),
    [
        ("python", None, "python"),
        ("Python", "x.rs", "python"),
        ("klingon<script>", None, "other"),
        (None, "src/Main.java", "java"),
        (None, "notes.unknown", "other"),
        (None, None, ""),
    ],
)
def test_languages_are_a_closed_list(named, path, language):
    assert language_of(named, path) == language

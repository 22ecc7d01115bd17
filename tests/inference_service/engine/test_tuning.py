"""The choice of kernels is measured once a machine, model shape and version, and kept in the user's cache."""

import errno
import os
import time

import pytest

from inference_service.engine import runner as runner_module
from inference_service.engine import tuning
from inference_service.engine.runner import Runner
from inference_service.model import directory
from inference_service.model.config import GPTConfig

CONFIG = GPTConfig(300, n_layer=1, n_head=2, n_kv_head=1, d_model=16, d_ff=16, context_length=64)


def slow(work, pool):
    time.sleep(0.05)


def fast_when_long(work, pool):
    time.sleep(0.005 if sum(len(item.tokens) for item in work) > 8 else 0.15)


def test_each_size_gets_the_way_that_was_measured_as_the_faster_one():
    choice = tuning.measure({"precise": slow, "other": fast_when_long}, CONFIG)
    assert [tuning.chosen(choice, tokens) for tokens in (1, 8, 9, 64, 1000)] == [
        "precise", "precise", "other", "other", "other",
    ]  # fmt: skip


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"choice": {"1": "a way of another version"}}'])
def test_a_choice_is_remembered_and_a_damaged_file_is_measured_again(tmp_path, damage):
    measured = []

    def way(work, pool):
        measured.append(len(work))

    first = tuning.remembered({"one": way}, CONFIG, tmp_path)
    count = len(measured)
    assert tuning.remembered({"one": way}, CONFIG, tmp_path) == first
    assert len(measured) == count + len(first), "each size once, so that all is compiled; nothing is measured"
    [file] = tmp_path.iterdir()
    file.write_text(damage)
    assert tuning.remembered({"one": way}, CONFIG, tmp_path) == first
    assert len(measured) > count


def test_a_folder_that_cannot_be_written_is_no_fault(tmp_path):
    (tmp_path / "file").write_text("")
    assert tuning.remembered({"one": slow}, CONFIG, tmp_path / "file")


def test_a_context_that_needs_too_much_memory_is_served_in_part_and_says_so(tiny_model_dir, monkeypatch, caplog):
    monkeypatch.setattr(runner_module, "CPU_CONTEXT_BYTES", 2 * 2 * 16 * 2 * 4 * 100)
    runner = Runner(directory.load(tiny_model_dir), "cpu", 1)
    assert runner.context_length < 512
    assert runner.cache_tokens >= runner.context_length
    assert "of the model's 512 tokens of context" in caplog.text


def test_what_a_killed_process_left_half_written_is_swept_up(tmp_path):
    old, fresh = tmp_path / "kernels-0123.41", tmp_path / "kernels-0123.42"
    for path in (old, fresh):
        path.write_text('{"choi')
    os.utime(old, (0, 0))
    tuning.remembered({"one": lambda work, pool: None}, CONFIG, tmp_path)
    assert not old.exists(), "nobody writes it any more"
    assert fresh.exists(), "another process may be at it"
    assert len(list(tmp_path.glob("kernels-*.json"))) == 1


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(path, text, **_):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_text", full)
    assert tuning.remembered({"one": lambda work, pool: None}, CONFIG, tmp_path)
    assert list(tmp_path.iterdir()) == []

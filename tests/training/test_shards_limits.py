"""Preparing data when it is killed, when the disk is full, and with little memory."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inference_service.model.tokenizer import Tokenizer
from tests.training.prepared import listed, write_corpus
from training.shards import prepare

INTERRUPTED = """
import sys
from pathlib import Path
from training.shards import load_tokenizer, prepare
if __name__ == "__main__":
    corpus, out = map(Path, sys.argv[1:3])
    prepare(corpus, "train", load_tokenizer(out), out, workers=int(sys.argv[3]), shard_bytes=300_000)
"""


def test_a_killed_run_goes_on_where_it_was_and_leaves_no_process_behind(tokenizer, tmp_path):
    text = "def add(first, second):\n    return first + second\n" * 400
    corpus = write_corpus(tmp_path / "corpus", [("p", f"{n}.py", text) for n in range(250)])
    tokenizer.save(tmp_path / "tokenizer.tiktoken")
    (tmp_path / "run.py").write_text(INTERRUPTED)
    command = [sys.executable, tmp_path / "run.py", corpus, tmp_path]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    running = subprocess.Popen([*command, "2"], env=environment, stderr=subprocess.PIPE, start_new_session=True)
    while not list(tmp_path.rglob("*.json")):
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.01)
    running.kill()
    running.communicate()
    while _processes_of(running.pid):
        time.sleep(0.05)  # pytest's timeout is the limit
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert not (tmp_path / "train.json").exists()
    subprocess.run([*command, "1"], env=environment, check=True, capture_output=True)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    expected = tokenizer.encode(text)
    assert all(tokens == expected for _, _, tokens in listed(tmp_path, tokenizer))
    assert not list(tmp_path.rglob("*.partial"))


def test_what_a_killed_run_left_half_written_goes_and_another_parts_stays(tokenizer, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", [("p", f"{n}.py", "x = 1\n" * 100) for n in range(4)])
    out = tmp_path / "data"
    assert prepare(corpus, "train", tokenizer, out, part=(0, 2), shard_bytes=800) is None
    first, second = (next(out.glob("train-*")) / f"0000{n}.json.0a1b.partial" for n in (0, 1))
    first.with_name("00000.json").replace(first)
    second.touch()
    assert prepare(corpus, "train", tokenizer, out, part=(0, 2), shard_bytes=800) is None
    assert not first.exists() and second.exists()


def _processes_of(session: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def on_a_full_disk() -> None:
    """No file can grow beyond a few kilobytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


def test_a_full_disk_leaves_earlier_data_unharmed_and_says_what_to_do(corpus, tokenizer, tmp_path):
    prepare(write_corpus(tmp_path / "earlier", [("p", "a.py", "x = 1\n")] * 3), "train", tokenizer, tmp_path)
    tokenizer.save(tmp_path / "tokenizer.tiktoken")
    before = listed(tmp_path, tokenizer)
    full = subprocess.run(
        [sys.executable, "-m", "training", "prepare", "--corpus", corpus, "--data", tmp_path],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        preexec_fn=on_a_full_disk,
    )
    assert full.returncode == 1
    assert "cannot be written (File too large): make room or give another --data" in full.stderr
    assert "Traceback" not in full.stderr
    assert listed(tmp_path, tokenizer) == before
    assert not list(tmp_path.rglob("*.partial"))


LIMITED = """
import json, resource, sys
from pathlib import Path
from training.fim import FimConfig, RowSampler
from training.shards import load_tokenizer, open_split, prepare

def work(corpus, out, workers):
    tokenizer = load_tokenizer(out)
    prepare(corpus, "train", tokenizer, out / corpus.name, workers=workers)
    dataset = open_split(out / corpus.name, "train", tokenizer)
    dataset.verify()
    sampler = RowSampler(dataset, tokenizer, 512, FimConfig(), 0)
    for number in range(50):
        sampler.row(number)

if __name__ == "__main__":
    small, large, out = map(Path, sys.argv[1:4])
    headroom, workers = map(int, sys.argv[4:])
    work(small, out, 1)
    data = next(line for line in open("/proc/self/status") if line.startswith("VmData"))
    limit = int(data.split()[1]) * 1024 + headroom
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    work(large, out, workers)
"""


def prepare_within(headroom: int, corpus_bytes: int, tmp_path: Path, tokenizer: Tokenizer, text: str, workers: int):
    """Prepare a corpus, and sample from it, in processes that may allocate `headroom` bytes more than a toy needs."""
    for name, size in (("small", len(text) * 4), ("large", corpus_bytes)):
        write_corpus(tmp_path / name, (("p", f"{'folder/' * 8}{n}.py", text) for n in range(size // len(text))))
    tokenizer.save(tmp_path / "tokenizer.tiktoken")
    (tmp_path / "limited.py").write_text(LIMITED)
    arguments = [tmp_path / "small", tmp_path / "large", tmp_path, headroom, workers]
    return subprocess.run(
        [sys.executable, tmp_path / "limited.py", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
    )


def test_memory_stays_flat_for_a_corpus_four_times_its_limit(tmp_path):
    words = Tokenizer({bytes([b]): b for b in range(256)} | {b"x" * 2**n: 255 + n for n in range(1, 6)})
    done = prepare_within(4_000_000, 16_000_000, tmp_path, words, ("x" * 32 + "\n") * 12, workers=1)
    assert done.returncode == 0, done.stderr


@pytest.mark.full
@pytest.mark.timeout(600)
def test_memory_stays_flat_for_a_quarter_of_a_gigabyte_of_code_in_64_megabytes(tmp_path, tokenizer, corpus):
    text = "".join(json.loads(line)["text"] for line in (corpus / "train.jsonl").open())
    done = prepare_within(64_000_000, 256_000_000, tmp_path, tokenizer, text[:8000], workers=2)
    assert done.returncode == 0, done.stderr

"""Training through the command line, and what may befall it: kills, signals, a full disk, lost workers."""

import os
import re
import resource
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import torch

from tests.training.toy import command, log_lines, losses, start, toy, toy_file, wait_for_step
from tests.tries import tries
from training import checkpoint
from training.checkpoint import CheckpointNotWritten
from training.run_log import truncate
from training.train import train

LONG = {"total_tokens": 60 * 256, "checkpoint_minutes": 0.0, "precision": "float32"}


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """Losses and weights of the long toy training, by one process that nobody disturbs."""
    out = tmp_path_factory.mktemp("uninterrupted")
    train(toy(**LONG), data, out, threads=1, compiled=False)
    return losses(out), checkpoint.read(out / checkpoint.FILE).tensors


def ended(process: subprocess.Popen, stderr: Path) -> str:
    assert process.wait(timeout=250) == 0, stderr.read_text()
    return stderr.read_text()


def test_killed_then_stopped_and_resumed_the_losses_are_those_of_an_uninterrupted_run(data, tmp_path, uninterrupted):
    for number in tries():
        out = tmp_path / f"run{number}"
        arguments = command(toy_file(tmp_path, **LONG), data, out)
        process = start(arguments, tmp_path / "first")
        wait_for_step(15, out, process)
        process.kill()
        process.wait()
        killed_at = log_lines(out)[-1]["step"]

        process = start(arguments, tmp_path / "second")
        wait_for_step(30, out, process)
        process.terminate()
        stopped = process.wait(timeout=250)
        if killed_at < 30 and stopped:  # else one of the signals came late
            break
    assert stopped == 128 + signal.SIGTERM
    said, last = (tmp_path / "second").read_text(), log_lines(out)[-1]["step"]
    resumed_at = re.search(r"checkpoint\.safetensors: going on from step (\d+)", said)
    assert 10 < int(resumed_at[1]) < 30
    assert f"stopped at step {last} of 60; run the same command again to go on" in said
    assert "Traceback" not in said
    assert checkpoint.read(out / checkpoint.FILE).step == last

    train(toy(**LONG), data, out, threads=1, compiled=False)
    all_losses, weights = uninterrupted
    assert losses(out) == all_losses
    resumed = checkpoint.read(out / checkpoint.FILE).tensors
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


def test_a_full_disk_stops_training_and_leaves_the_last_checkpoint(data, tmp_path):
    train(toy(), data, tmp_path, threads=1, compiled=False)
    before = (tmp_path / checkpoint.FILE).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))  # no file above a megabyte
    try:
        with pytest.raises(
            CheckpointNotWritten, match=r"checkpoint\.safetensors could not be written at step 16"
        ) as error:
            train(toy(total_tokens=16 * 256), data, tmp_path, threads=1, compiled=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "free some space and run the same command again" in str(error.value)
    assert (tmp_path / checkpoint.FILE).read_bytes() == before
    assert not (tmp_path / "checkpoint.partial").exists()


def worker(torchrun: subprocess.Popen, rank: int) -> int:
    """The process id of a worker that torchrun has started."""
    children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
    of_rank = [pid for pid in children if f"\0RANK={rank}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()]
    assert len(of_rank) == 1
    return int(of_rank[0])


def test_two_processes_one_of_them_killed_end_with_the_losses_of_one_process(data, tmp_path, uninterrupted):
    torchrun = ["--standalone", "--nproc-per-node=2", "--max-restarts=3"]
    for number in tries():
        out = tmp_path / f"run{number}"
        process = start(command(toy_file(tmp_path, **LONG), data, out, *torchrun), tmp_path / "stderr")
        wait_for_step(15, out, process)
        killed_at = log_lines(out)[-1]["step"]
        if killed_at < 50:
            os.kill(worker(process, rank=1), signal.SIGKILL)
            break
        ended(process, tmp_path / "stderr")
    assert re.search(r"checkpoint\.safetensors: going on from step [1-9]", ended(process, tmp_path / "stderr"))
    assert losses(out) == pytest.approx(uninterrupted[0], abs=1e-3)


@pytest.mark.full
def test_two_nodes_meet_and_train_as_one(data, tmp_path, uninterrupted):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=toy"]
    processes = []
    for node in range(2):  # each with a folder of its own: only the first one's is written to
        torchrun = [*meeting, f"--node-rank={node}", f"--rdzv-endpoint=127.0.0.1:{port}", "--local-addr=127.0.0.1"]
        arguments = command(toy_file(tmp_path, **LONG), data, tmp_path / f"run{node}", *torchrun)
        processes.append(start(arguments, tmp_path / f"stderr{node}"))
    for node, process in enumerate(processes):
        ended(process, tmp_path / f"stderr{node}")
    written = [out for out in (tmp_path / "run0", tmp_path / "run1") if out.exists()]
    assert len(written) == 1
    assert losses(written[0]) == pytest.approx(uninterrupted[0], abs=1e-3)


def test_a_resumed_log_has_each_step_once_and_no_rewind_that_did_not_happen(tmp_path):
    log = tmp_path / "log.jsonl"
    happened, lost = (f'{{"step": 2, "event": "rewind", "skipped": [{batch}]}}' for batch in (3, 9))
    log.write_text(f'{{"step": 1}}\n{happened}\n{lost}\n{{"step": 2}}\n{{"step": 3}}\n{{"step": 4, "lo')
    truncate(log, 2, skipped=[3])
    assert log.read_text() == f'{{"step": 1}}\n{happened}\n{{"step": 2}}\n'

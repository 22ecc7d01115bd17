"""A toy training that takes seconds, and how to look at what it left."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from inference_service.model.gpt import GPTConfig
from training.recipe import Recipe, TrainConfig

MODEL = GPTConfig(16384, n_layer=1, n_head=2, n_kv_head=1, d_model=32, d_ff=64, context_length=128)


def toy(**train) -> Recipe:
    """12 steps of 4 rows of 64 tokens."""
    usual = {"total_tokens": 12 * 256, "batch_tokens": 256, "row_tokens": 64, "head_tokens": 1024, "warmup_steps": 2}
    return Recipe("toy", MODEL, TrainConfig(**usual | train))


def toy_file(folder: Path, **train) -> Path:
    recipe = toy(**train)
    sections = {"model": MODEL.to_dict(), "train": dataclasses.asdict(recipe.train)}
    path = folder / "toy.json"
    path.write_text(json.dumps(sections))
    return path


def log_lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def losses(out: Path) -> dict[int, float]:
    """By step; a step that is logged twice is an error."""
    steps = [line for line in log_lines(out) if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    return {line["step"]: line["loss"] for line in steps}


def command(recipe: Path, data: Path, out: Path, *torchrun: str) -> list[str]:
    """The train stage as a command line, under torchrun when that has arguments."""
    launcher = ["-m", "torch.distributed.run", *torchrun] if torchrun else []
    stage = ["-m", "training", "train", recipe, "--data", data, "--out", out, "--threads", "1", "--eager"]
    return [sys.executable, *launcher, *map(str, stage)]


def start(arguments: list[str], stderr: Path) -> subprocess.Popen:
    # with the shared store a restarted group finds the keys of the one before, and hangs
    environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    with stderr.open("w") as file:
        return subprocess.Popen(arguments, stdout=file, stderr=file, env=environment)


def wait_for_step(step: int, out: Path, process: subprocess.Popen) -> None:
    """Return when a running training has logged `step`."""
    running = True
    while not (out / "log.jsonl").exists() or f'"step": {step},' not in (out / "log.jsonl").read_text():
        assert running, "the training ended too early"
        running = process.poll() is None
        time.sleep(0.005)

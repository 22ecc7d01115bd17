"""What a run leaves to read: log.jsonl, TensorBoard events, curves.png, and one live line."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from training.curves import draw

_CURVES = {"loss", "bits_per_byte", "grad_norm", "lr", "tokens_per_s", "mfu", "data_wait"}
_RATE_STEPS = 20
_DRAW_SECONDS = 60.0


class RunLog:
    """Opens a run's logs at `step`, dropping what an interrupted run wrote beyond it.

    A line of log.jsonl is a step; one with "event" tells that training went back to "step" because of "reason" and
    leaves out the batches "skipped". Raises OSError with the path when the disk is full.
    """

    def __init__(self, out: Path, step: int, steps: int, skipped: list[int]) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._out, self._steps = out, steps
        self._path = out / "log.jsonl"
        self._drawn = time.monotonic()
        self._open(step, skipped)

    def _open(self, step: int, skipped: list[int]) -> None:
        truncate(self._path, step, skipped)
        self._file = self._path.open("a", encoding="utf-8")
        self._events = SummaryWriter(str(self._out / "tensorboard"), purge_step=step + 1)
        self._times = deque([(time.monotonic(), 0.0)], maxlen=_RATE_STEPS + 1)

    def step(self, values: dict[str, Any], waited: float, tokens: int, flops: float, peak: float) -> None:
        """Log a step's values, with the rate, utilisation and data wait of the last steps.

        `waited` seconds for data, mean over the processes; `tokens` a step; `flops` a token; `peak` FLOP/s of all.
        """
        now = time.monotonic()
        self._times.append((now, waited))
        seconds = now - self._times[0][0]
        rate = (len(self._times) - 1) * tokens / seconds
        waiting = sum(wait for _, wait in list(self._times)[1:]) / seconds
        line = values | {
            "tokens_per_s": round(rate),
            "mfu": round(rate * flops / peak, 4),
            "data_wait": round(waiting, 4),
        }
        self._write(line)
        self._progress(line, (self._steps - line["step"]) * tokens / rate)

    def rewind(self, step: int, at: int, reason: str, skipped: list[int]) -> None:
        """Training went back to `step` because of what happened at step `at`."""
        self.close()
        self._open(step, skipped)
        self._write({"step": step, "event": "rewind", "at": at, "reason": reason, "skipped": skipped})
        print(f"\nstep {at}: {reason}; back to step {step}, leaving out batches {skipped}", file=sys.stderr)

    def draw(self, finished: bool = False) -> None:
        """Draw curves.png, now and then, and when training has finished."""
        if finished or time.monotonic() - self._drawn > _DRAW_SECONDS:
            draw(self._path, self._out / "curves.png")
            self._drawn = time.monotonic()

    def close(self) -> None:
        self._file.close()
        self._events.close()

    def _write(self, line: dict[str, Any]) -> None:
        try:
            print(json.dumps(line), file=self._file, flush=True)
            for key in line.keys() & _CURVES:
                self._events.add_scalar(key, line[key], line["step"])
        except OSError as error:
            raise OSError(
                f"{self._out} could not be written to ({error}): free some space and run the same command again"
            ) from error

    def _progress(self, line: dict[str, Any], seconds: float) -> None:
        live = sys.stderr.isatty()
        if not live and line["step"] % _RATE_STEPS and line["step"] != self._steps:
            return
        text = (
            f"step {line['step']}/{self._steps}  loss {line['loss']:.3f}  {line['bits_per_byte']:.3f} bits/byte  "
            f"{line['tokens_per_s']:,} tok/s  {line['mfu']:.0%} MFU  data wait {line['data_wait']:.0%}  "
            f"{_duration(seconds)} left"
        )
        print(f"\r{text}\x1b[K" if live else text, end="" if live else "\n", file=sys.stderr, flush=True)


def truncate(path: Path, step: int, skipped: list[int]) -> None:
    """Drop what a log has beyond `step`, half a line, and rewinds that the checkpoint knows nothing of; atomically."""
    if not path.exists():
        return
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _belongs(line, step, skipped)]
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in kept)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _belongs(line: str, step: int, skipped: list[int]) -> bool:
    try:
        values = json.loads(line)
    except ValueError:
        return False
    return values["step"] <= step and set(values.get("skipped", [])) <= set(skipped)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"

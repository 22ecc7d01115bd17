"""pass@k on benchmark files in the public JSONL format, for infilling and left to right.

A line is one problem: `task_id, prompt, suffix, canonical_solution, test, entry_point`; `test` defines
`check(candidate)`. The samples of a model run with that test in the sandbox.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from training.evaluate.decoding import Decoder
from training.evaluate.sandbox import Sandbox
from training.evaluate.stop_rules import StopRule, block_end, function_end, line_end, never

Mode = Literal["auto", "line", "block"]

_AT_ONCE = 16  # samples of one prompt decoded side by side


class BadBenchmark(ValueError):
    """A benchmark file, or a way to run it, that cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """`suffix` None: the model writes everything after the prompt, left to right."""

    task_id: str
    prompt: str
    suffix: str | None
    solution: str
    test: str
    entry_point: str

    def program(self, completion: str) -> str:
        return f"{self.prompt}{completion}{self.suffix or ''}\n\n{self.test}\n\ncheck({self.entry_point})\n"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How many completions of at most `max_tokens` a problem gets; `temperature` 0 is greedy.

    `mode` is the service's: "auto" leaves the end to the model, "line" and "block" end an infilling earlier.
    `cpu_seconds` is what a completion with its test may take.
    """

    samples: int
    temperature: float
    max_tokens: int
    mode: Mode
    cpu_seconds: int

    def check(self, ks: Sequence[int]) -> None:
        """Raises BadBenchmark when these samples cannot give pass@k for all `ks`."""
        if min(self.samples, self.max_tokens, self.cpu_seconds, *ks) < 1 or self.temperature < 0:
            raise BadBenchmark("--samples, --k, --max-tokens and --seconds must be at least 1, --temperature 0")
        if max(ks) > self.samples:
            raise BadBenchmark(f"pass@{max(ks)} needs at least {max(ks)} samples a problem: --samples {max(ks)}")
        if self.temperature == 0 and self.samples > 1:
            raise BadBenchmark("at temperature 0 every sample is the same: give --temperature, or --samples 1")


@dataclass(frozen=True, slots=True)
class Result:
    """`solvable`: the file's own solution passes here, so a failure is the model's."""

    task_id: str
    samples: int
    passed: int
    solvable: bool


def read_problems(path: Path, *, left_to_right: bool) -> list[Problem]:
    """Read a .jsonl or .jsonl.gz file. With `left_to_right` the solution is `canonical_solution` and the suffix.

    Raises BadBenchmark with the line that is wrong.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = raw.decode("utf-8").split("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise BadBenchmark(f"{path} cannot be read ({error}): give a .jsonl or .jsonl.gz file") from error
    problems = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            texts = [fields[name] for name in ("task_id", "prompt", "canonical_solution", "test", "entry_point")]
            suffix = fields.get("suffix")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadBenchmark(f"{path}, line {number}: not a benchmark problem ({error!r})") from error
        if not all(isinstance(text, str) for text in (*texts, suffix or "")):
            raise BadBenchmark(f"{path}, line {number}: every field of a problem must be a string")
        if suffix is None and not left_to_right:
            raise BadBenchmark(f"{path}, line {number}: the problem has no suffix; run it with --left-to-right")
        task_id, prompt, solution, test, entry_point = texts
        if left_to_right:
            solution, suffix = solution + (suffix or ""), None
        problems.append(Problem(task_id, prompt, suffix, solution, test, entry_point))
    if not problems:
        raise BadBenchmark(f"{path} holds no problem")
    return problems


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """The unbiased estimate of the chance that one of `k` samples passes (Chen et al. 2021, section 2.1)."""
    if samples - passed < k:
        return 1.0
    return 1.0 - float(np.prod(1.0 - k / np.arange(samples - passed + 1, samples + 1)))


def run_benchmark(decoder: Decoder, problems: Sequence[Problem], sandbox: Sandbox, sampling: Sampling) -> list[Result]:
    """Complete and test all problems; tests run in threads while the next problem is decoded."""
    pool = ThreadPoolExecutor(os.cpu_count())
    running = []
    try:
        for number, problem in enumerate(tqdm(problems, "problems", unit="problem", leave=False, disable=None)):
            texts = list(_completions(decoder, problem, sampling, seed=number))
            tests = {
                text: pool.submit(sandbox.passes, problem.program(text), sampling.cpu_seconds)
                for text in {problem.solution, *texts}
            }
            running.append((problem, texts, tests))
        return [
            Result(
                problem.task_id,
                len(texts),
                sum(tests[text].result() for text in texts),
                tests[problem.solution].result(),
            )
            for problem, texts, tests in running
        ]
    finally:
        pool.shutdown(cancel_futures=True)  # interrupted: what waits is not started


def _completions(decoder: Decoder, problem: Problem, sampling: Sampling, seed: int) -> Iterator[str]:
    stop = _stop_rule(problem, sampling.mode)
    if sampling.temperature == 0:
        yield decoder.greedy(None, problem.prompt, problem.suffix, stop, sampling.max_tokens).text
        return
    for first in range(0, sampling.samples, _AT_ONCE):
        for completion in decoder.samples(
            None,
            problem.prompt,
            problem.suffix,
            stop,
            sampling.max_tokens,
            count=min(_AT_ONCE, sampling.samples - first),
            temperature=sampling.temperature,
            seed=seed * 1_000_003 + first,
        ):
            yield completion.text


def _stop_rule(problem: Problem, mode: Mode) -> StopRule:
    if problem.suffix is None:
        return function_end
    return {"auto": never, "line": line_end, "block": block_end(problem.prompt)}[mode]

"""What the engine does at its limits: recorded steps, short memory, deadlines, work for nobody, guesses."""

import time

import pytest
import torch

from inference_service.engine.cuda_graphs import uncaptured
from inference_service.engine.engine import Engine
from inference_service.engine.kernels import plain
from inference_service.engine.kernels.row_step import RowStep
from inference_service.engine.runner import Runner
from inference_service.engine.speculation import LONGEST, StepCosts
from inference_service.engine.static_step import StaticStep
from inference_service.model import directory
from tests.tries import tries

PREFIX = "import os\n\n\ndef read(path):\n    with open(path) as file:\n        "
PROMPTS = [PREFIX, PREFIX * 3, "a = 1\n", "def add(a, b):\n    return a + b\n\n\n" * 3]


@pytest.fixture(scope="module")
def loaded(tiny_model_dir):
    return directory.load(tiny_model_dir)


class FloatRunner(Runner):
    """float32 activations by the operators."""

    def __init__(self, loaded):
        super().__init__(loaded, "cpu", 1)
        assert self.tuned.wait(110)
        self._cpu = None
        self._model = loaded.build_float()


class StaticRunner(FloatRunner):
    """What a GPU's runner does, on a CPU: nothing is recorded and the kernels are the plain ones."""

    def __init__(self, loaded):
        super().__init__(loaded)
        rows = RowStep(self.config, dict(self._model.named_parameters()), loaded.int8, plain, self.device)
        with torch.inference_mode():
            self._static = StaticStep(rows, self.pool, self.context_length, uncaptured, (1, 2, 4, 8, 16))


def texts(ask, runner, loaded, sampling):
    engine = Engine(runner, loaded.tokenizer)
    runs = [ask(engine, prompt=prompt, max_tokens=12, **sampling) for prompt in PROMPTS]
    out = [run.result() for run in runs]
    engine.stop()
    return out


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8, "top_k": 40, "seed": 3}])
def test_recorded_steps_beside_long_prefills_write_the_same_text(loaded, ask, sampling):
    assert texts(ask, StaticRunner(loaded), loaded, sampling) == texts(ask, FloatRunner(loaded), loaded, sampling)


class Small(FloatRunner):
    """Has no memory for steps of more than `most` tokens."""

    def __init__(self, loaded, most):
        super().__init__(loaded)
        self._most, self.largest = most, 0

    def forward(self, work):
        tokens = sum(len(item.tokens) for item in work)
        if tokens > self._most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.largest = max(self.largest, tokens)
        return super().forward(work)


def test_short_memory_makes_steps_smaller_and_fails_nobody(loaded, ask):
    runner = Small(loaded, 40)
    assert texts(ask, runner, loaded, {}) == texts(ask, FloatRunner(loaded), loaded, {})
    assert runner.largest <= 40


def test_where_even_the_smallest_step_does_not_fit_the_newest_request_fails(loaded, ask):
    engine = Engine(Small(loaded, 3), loaded.tokenizer)
    runs = [ask(engine, prompt=PREFIX, max_tokens=4) for _ in range(3)]
    assert {run.result()[1] for run in runs} == {"error"}
    assert runs[0].chunks[-1].error == "MemoryError in the engine"
    # the engine lives, and a request that fits is served
    assert ask(engine, prompt="x", max_tokens=4).result()[1] == "length"
    assert engine.gauges()["kv_cache_usage_ratio"] == 0
    engine.stop()


class Failing(FloatRunner):
    """Computes nothing; `works` is what the device says of itself."""

    def forward(self, work):
        raise RuntimeError("CUDA error: unspecified launch failure")


@pytest.mark.parametrize("lost", [True, False])
def test_a_device_that_is_lost_is_a_stalled_engine_and_a_request_that_fails_is_none(loaded, ask, monkeypatch, lost):
    runner = Failing(loaded)
    assert runner.works()
    if lost:
        monkeypatch.setattr(runner, "works", lambda: False)
    engine = Engine(runner, loaded.tokenizer)
    assert ask(engine, prompt=PREFIX, max_tokens=4).result()[1] == "error"
    # past every limit of --watchdog-s: /livez fails, and the process ends
    assert (engine.gauges()["engine_stalled_seconds"] > 2 * 86_400) is lost
    engine.stop()


class Scripted(FloatRunner):
    """Greedily writes the same tokens again and again, a while each."""

    def __init__(self, loaded, text, seconds):
        super().__init__(loaded)
        self._text, self._seconds = loaded.tokenizer.encode(text), seconds

    def forward(self, work):
        time.sleep(self._seconds)
        logits = super().forward(work).zero_()
        rows = iter(logits)
        for item in work:
            for i in range(item.logits):
                at = item.start + len(item.tokens) - item.logits + i
                next(rows)[self._text[at % len(self._text)]] = 9.0
        return logits


@pytest.mark.parametrize("mode", ["auto", "block"])
def test_a_deadline_cuts_at_the_last_whole_line(loaded, ask, mode):
    runner = Scripted(loaded, "value = compute(value)\n", 0.02)
    engine = Engine(runner, loaded.tokenizer)
    for number in tries():
        deadline = time.monotonic() + 0.8 * 2**number
        text, reason = ask(engine, prompt="x = 1\n", max_tokens=500, mode=mode, deadline=deadline).result()
        lines = text.rstrip("\n").split("\n")
        if len(lines) > 1:
            break
    engine.stop()
    assert reason == "deadline"
    # the first may begin anywhere in the repeated text; the last is whole
    assert all(line == "value = compute(value)" for line in lines[1:])


def test_a_deadline_in_the_first_line_returns_what_there_is(loaded, ask):
    engine = Engine(Scripted(loaded, "abc + ", 0.02), loaded.tokenizer)
    for number in tries():
        deadline = time.monotonic() + 0.4 * 2**number
        text, reason = ask(engine, prompt="x = 1\n", max_tokens=500, deadline=deadline).result()
        if "abc" in text:
            break
    engine.stop()
    assert reason == "deadline" and "abc" in text and "\n" not in text


def test_tokens_computed_for_nobody_are_counted_by_the_stage_they_were_lost_in(loaded, ask):
    engine = Engine(Scripted(loaded, "abc + ", 0.005), loaded.tokenizer)
    ask(engine, prompt=PREFIX, max_tokens=3).result()
    assert engine.gauges()["wasted_tokens_total"] == 0
    run = ask(engine, prompt=PREFIX * 2, max_tokens=200, tenant="other")
    run.begun()
    engine.cancel(run.request.id)
    run.result()
    values = engine.gauges()
    computed = run.chunks[-1].stats.prompt_tokens + run.chunks[-1].stats.completion_tokens
    assert computed - 1 <= values["wasted_tokens_total"] <= computed + 10
    assert values['aborted_total{stage="decode"}'] == 1
    # one of a session that is superseded before its turn costs nothing
    runs = [ask(engine, prompt=PREFIX * 2, max_tokens=2, session="s") for _ in range(3)]
    assert [one.result()[1] for one in runs][-1] == "length"
    after = engine.gauges()
    stages = sum(after[f'aborted_total{{stage="{stage}"}}'] for stage in ("waiting", "prefill", "decode"))
    assert stages == 3
    engine.stop()


def test_where_the_time_went_is_told(loaded, ask):
    engine = Engine(FloatRunner(loaded), loaded.tokenizer)
    ask(engine, prompt="def add(a, b):\n    return a + b\n\n\n" * 4, max_tokens=30).result()
    engine.stop()
    values = engine.gauges()
    assert values["step_device_seconds_count"] == values["step_host_seconds_count"] > 5
    assert values["step_device_seconds_sum"] > 0 and values["step_host_seconds_sum"] > 0
    assert values["mbu_ratio"] > 0
    assert values["spec_accepted_length_sum"] <= LONGEST * values["spec_accepted_length_count"]


def test_what_the_tenant_was_written_before_is_guessed_for_it_alone(loaded, ask, monkeypatch):
    # a busy machine must not decide here what guesses are worth
    monkeypatch.setattr(StepCosts, "observe", lambda self, tokens, seconds: None)

    def steps(tenants):
        engine = Engine(FloatRunner(loaded), loaded.tokenizer)
        out = []
        for tenant in tenants:
            before = engine.gauges()["step_device_seconds_count"]
            text, _ = ask(engine, prompt=PREFIX, max_tokens=40, tenant=tenant).result()
            out.append((text, engine.gauges()["step_device_seconds_count"] - before))
        engine.stop()
        return out

    first, again, other = steps(["a", "a", "b"])
    assert first[0] == again[0] == other[0]
    assert again[1] < other[1]

"""Distillation: the student gets nearer to its teacher, resumes, and is refused where the two do not go together."""

import signal
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from inference_service.model.gpt import GPT
from tests.training.compress.conftest import CONFIG, recipe
from training.checkpoint import FILE, BadCheckpoint
from training.compress import tune
from training.compress.distill import DistillationLoss, distill, first_student
from training.compress.source import BadSource
from training.interrupt import Interrupted
from training.precision import matrix_type

SETTINGS = {"temperature": 2.0, "soft_share": 0.9}


STUDENT = replace(CONFIG, n_layer=1)
STRANGER = replace(STUDENT, d_ff=32)


def divergence(student, teacher):
    tokens = torch.tensor([list(b"def main():\n    for line in lines:\n        print(line)\n")])
    with torch.inference_mode():
        return DistillationLoss(student, teacher, 1.0, 1.0)(tokens, tokens.flatten()).item()


def test_the_student_gets_nearer_to_its_teacher(source, byte_data, tmp_path):
    short, _ = distill(source, recipe(1, STRANGER), byte_data, tmp_path / "short", **SETTINGS)
    long, released = distill(source, recipe(60, STRANGER), byte_data, tmp_path / "long", **SETTINGS)
    assert divergence(long.model, source.model) < 0.7 * divergence(short.model, source.model)
    assert released.model is source.model
    assert "a student of bytes" in released.card
    assert released.training["tokens_seen"] == 60 * 512


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_matrices_are_multiplied_in_the_precision_of_the_recipe(source, byte_data, tmp_path, precision):
    asked = recipe(1, STRANGER)
    asked = replace(asked, train=replace(asked.train, precision=precision))
    types = set()

    def note(module, _, output):
        if isinstance(module, torch.nn.Linear):
            types.add(output.dtype)

    hook = register_module_forward_hook(note)
    try:
        distill(source, asked, byte_data, tmp_path, **SETTINGS)
    finally:
        hook.remove()
    assert types == {matrix_type(asked.train, torch.device("cpu"))}


def test_a_student_with_fewer_layers_starts_from_its_teachers(source):
    student, fresh = first_student(recipe(1, STUDENT), source.model), GPT(STUDENT)
    fresh.init_weights()
    assert divergence(student, source.model) < 0.8 * divergence(fresh, source.model)
    same = first_student(recipe(1), source.model)
    assert divergence(same, source.model) == pytest.approx(0, abs=1e-5)


def test_a_student_of_another_width_starts_at_random(source):
    config = replace(CONFIG, d_ff=32)
    student, fresh = first_student(recipe(1, config), source.model), GPT(config)
    fresh.init_weights()
    assert all(torch.equal(tensor, fresh.state_dict()[name]) for name, tensor in student.state_dict().items())


def test_without_a_soft_share_it_is_plain_cross_entropy(source):
    inputs = torch.arange(20).view(2, 10)
    student = deepcopy(source.model)
    loss = DistillationLoss(student, source.model, 3.0, 0.0)(inputs, inputs.flatten())
    expected = torch.nn.functional.cross_entropy(student(inputs).flatten(0, 1), inputs.flatten())
    torch.testing.assert_close(loss, expected)


def test_a_student_that_is_its_teacher_has_nothing_to_learn(source):
    inputs = torch.arange(20).view(2, 10)
    loss = DistillationLoss(deepcopy(source.model), source.model, 3.0, 1.0)(inputs, inputs.flatten())
    assert loss.item() == pytest.approx(0, abs=1e-5)


def test_an_interrupted_distillation_goes_on_to_the_same_weights(source, byte_data, tmp_path, monkeypatch):
    six_steps = recipe(6, STUDENT)
    whole, _ = distill(source, six_steps, byte_data, tmp_path / "whole", **SETTINGS)

    with monkeypatch.context() as patch:
        interrupt_after(3, patch)
        with pytest.raises(Interrupted, match="stopped at step 3 of 6; run the same command again"):
            distill(source, six_steps, byte_data, tmp_path / "parts", **SETTINGS)
    parts, _ = distill(source, six_steps, byte_data, tmp_path / "parts", **SETTINGS)
    expected = whole.model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in parts.model.state_dict().items())


def interrupt_after(steps, patch):
    """SIGINT to this process in the middle of a step."""
    real, count = tune.learning_rate, iter(range(1, 100))

    def learning_rate(config, step):
        if step == steps - 1 and next(count) == 1:
            signal.raise_signal(signal.SIGINT)
        return real(config, step)

    patch.setattr(tune, "learning_rate", learning_rate)


def test_going_on_with_another_temperature_is_refused(source, byte_data, tmp_path):
    one_step = recipe(1, STUDENT)
    distill(source, one_step, byte_data, tmp_path, **SETTINGS)
    with pytest.raises(BadCheckpoint, match="another teacher, student or data"):
        distill(source, one_step, byte_data, tmp_path, temperature=5.0, soft_share=0.9)
    assert (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    ("student", "settings", "message"),
    [
        (recipe(1, replace(CONFIG, vocab_size=20000)), SETTINGS, r"vocabulary of 20000, teacher .* one of 261"),
        (recipe(1), {"temperature": 0.0, "soft_share": 0.5}, r"temperature 0\.0 not above 0"),
        (recipe(1), {"temperature": 1.0, "soft_share": 1.5}, r"soft share 1\.5 is not in 0\.\.1"),
        (recipe(1, replace(CONFIG, context_length=1024), 1024), SETTINGS, r"rows of 1024 tokens, teacher .* reads 512"),
    ],
)
def test_what_does_not_go_together_is_told(source, byte_data, tmp_path, student, settings, message):
    with pytest.raises(BadSource, match=message):
        distill(source, student, byte_data, tmp_path, **settings)

"""Distillation by logits (Hinton et al. 2015): a student learns its teacher's distribution over the next token."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inference_service.model.gpt import GPT
from training import checkpoint
from training.compress.release import Compressed
from training.compress.source import BadSource, Source
from training.compress.tune import tune
from training.recipe import Recipe


class DistillationLoss(nn.Module):
    """Inputs (B, T) and targets (B * T,) -> mean loss in nats a token.

    `soft_share` of the divergence KL(teacher || student) at `temperature`, times its square, which keeps the size of
    the gradient (section 2.1); the rest is the cross-entropy with the targets.
    """

    def __init__(self, student: GPT, teacher: GPT, temperature: float, soft_share: float) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher
        self._temperature, self._soft_share = temperature, soft_share

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        student = self.student(inputs).flatten(0, 1).float()
        with torch.no_grad():
            teacher = self.teacher(inputs).flatten(0, 1).float()
        softened, wanted = ((logits / self._temperature).log_softmax(-1) for logits in (student, teacher))
        soft = F.kl_div(softened, wanted, reduction="batchmean", log_target=True) * self._temperature**2
        return self._soft_share * soft + (1 - self._soft_share) * F.cross_entropy(student, targets)


def first_student(recipe: Recipe, teacher: GPT) -> GPT:
    """The recipe's model with random weights, or, where only layers were left out of the teacher, with the weights of
    layers that are evenly spread over it (Sanh et al. 2019, section 3)."""
    student = GPT(recipe.model)
    student.init_weights(recipe.train.seed)
    wanted, there = recipe.model.n_layer, teacher.config.n_layer
    if wanted <= there and replace(recipe.model, n_layer=there) == teacher.config:
        taken = [round((layer + 0.5) * there / wanted - 0.5) for layer in range(wanted)]
        weights = {name: tensor for name, tensor in teacher.state_dict().items() if not name.startswith("blocks.")}
        for layer, block in enumerate(taken):
            weights |= {f"blocks.{layer}.{name}": tensor for name, tensor in teacher.blocks[block].state_dict().items()}
        student.load_state_dict(weights)
    return student


def _digest(model: GPT) -> str:
    """SHA-256 of the weights."""
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()


def distill(
    teacher: Source,
    recipe: Recipe,
    data: Path,
    run: Path,
    *,
    temperature: float,
    soft_share: float,
    device: str = "cpu",
) -> tuple[Compressed, Source]:
    """Train the recipe's model on the teacher's logits, resuming from the checkpoint in `run`.

    Returns the student, and the teacher as what it is to be compared with, with the student's card and provenance.
    Raises BadSource when the two do not go together, and what `tune` raises.
    """
    if not 0 <= soft_share <= 1 or temperature <= 0:
        raise BadSource(f"soft share {soft_share} is not in 0..1, or temperature {temperature} not above 0")
    if recipe.model.vocab_size != teacher.model.config.vocab_size:
        raise BadSource(
            f"recipe {recipe.name} has a vocabulary of {recipe.model.vocab_size}, teacher {teacher.path} one of "
            f"{teacher.model.config.vocab_size}: a student needs its teacher's"
        )
    if recipe.train.row_tokens > teacher.model.config.context_length:
        raise BadSource(
            f"recipe {recipe.name} trains on rows of {recipe.train.row_tokens} tokens, teacher {teacher.path} reads "
            f"{teacher.model.config.context_length}: lower row_tokens"
        )
    # the divergence is over the whole vocabulary
    recipe = replace(recipe, train=replace(recipe.train, head_tokens=0))
    student = first_student(recipe, teacher.model)
    losses = DistillationLoss(student, teacher.model, temperature, soft_share)
    origin = {
        "teacher": _digest(teacher.model),
        "tokenizer": teacher.tokenizer.digest,
        "temperature": temperature,
        "soft_share": soft_share,
        "train": asdict(recipe.train),
    }
    saved = run / checkpoint.FILE
    tune(student, losses, recipe, data, teacher.tokenizer, device=device, saved=saved, origin=origin)
    teacher.model.to("cpu")
    millions = sum(parameter.numel() for parameter in student.parameters()) / 1e6
    card = (
        f"# Model card: {recipe.name}, a student of {teacher.name}\n\n"
        f"{millions:.1f} million parameters, {recipe.train.steps * recipe.train.batch_tokens / 1e6:.1f} million tokens "
        f"of the teacher's data seen, logits at temperature {temperature} for {soft_share:.0%} of the loss.\n"
    )
    training = {"recipe": recipe.name, "tokens_seen": recipe.train.steps * recipe.train.batch_tokens}
    settings = {"distill": {"teacher": teacher.name, "temperature": temperature, "soft_share": soft_share}}
    student_of = Compressed(f"distilled, {millions:.1f} M weights, int8 rows", student, settings)
    return student_of, replace(teacher, card=card, training=training, beside={})

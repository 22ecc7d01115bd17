"""Pruning by magnitude (Han et al. 2015): small weights of the blocks' projections become zero and stay zero.

The embedding keeps all its weights, it is the head as well. Zeros survive int8 rows.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from inference_service.model.gpt import GPT
from inference_service.model.tokenizer import Tokenizer
from training.compress.release import Compressed
from training.compress.source import Source, like_training
from training.compress.tune import tune
from training.recipe import Recipe, TrainConfig
from training.sampled_softmax import FullLoss, SampledLoss

_BATCH_TOKENS = 4096
_LONGEST_ROW = 1024
_MUON_LR = 0.004
_ADAM_LR = 0.0006
_SEED = 23  # not training's: recovery goes on to other rows


class BadSparsity(ValueError):
    """A share or a shape that cannot be pruned; the message says what is allowed."""


def magnitude_mask(weight: Tensor, sparsity: float) -> Tensor:
    """Matrix (out, in) -> bool of the same shape, False at the `sparsity` share of smallest magnitudes."""
    dropped = round(sparsity * weight.numel())
    order = weight.abs().flatten().argsort(stable=True)
    mask = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[order[:dropped]] = False
    return mask.view_as(weight)


def two_of_four_mask(weight: Tensor) -> Tensor:
    """Matrix (out, in) -> bool of the same shape, True at the two largest of each four neighbours in a row.

    The pattern that sparse tensor cores take (Mishra et al. 2021). Raises BadSparsity unless `in` divides by four.
    """
    if weight.shape[1] % 4:
        raise BadSparsity(f"rows of {weight.shape[1]} weights are not whole groups of four")
    kept = weight.abs().unflatten(1, (-1, 4)).topk(2, dim=2).indices
    mask = torch.zeros(*weight.shape[:1], weight.shape[1] // 4, 4, dtype=torch.bool, device=weight.device)
    return mask.scatter_(2, kept, True).flatten(1)


def masks(model: GPT, sparsity: float, *, two_of_four: bool) -> dict[str, Tensor]:
    """The mask of each matrix of the blocks, by parameter name. Raises BadSparsity."""
    if not 0 < sparsity < 1:
        raise BadSparsity(f"sparsity {sparsity} is not between 0 and 1")
    if two_of_four and sparsity != 0.5:
        raise BadSparsity(f"2:4 zeroes half of the weights, not {sparsity:.0%}: leave the sparsity out")
    return {
        f"blocks.{name}": two_of_four_mask(weight) if two_of_four else magnitude_mask(weight, sparsity)
        for name, weight in model.blocks.named_parameters()
        if weight.dim() == 2
    }


@torch.no_grad()
def apply_masks(model: nn.Module, kept: dict[str, Tensor]) -> None:
    """Set the weights to zero whose mask is False, in place."""
    parameters = dict(model.named_parameters())
    for name, mask in kept.items():
        parameters[name].mul_(mask.to(parameters[name].device))


def prune(
    source: Source, data: Path, *, sparsity: float, two_of_four: bool, recover_steps: int = 0, device: str = "cpu"
) -> Compressed:
    """Zero weights, then train what is left for `recover_steps` steps of 4,096 tokens with the zeros held.

    Raises BadSparsity, and what `tune` raises.
    """
    model = deepcopy(source.model)
    kept = masks(model, sparsity, two_of_four=two_of_four)
    apply_masks(model, kept)
    settings = {"pattern": "2:4" if two_of_four else "magnitude", "sparsity": sparsity, "recover_steps": recover_steps}
    name = "pruned 2:4" if two_of_four else f"pruned {sparsity:.0%}"
    if recover_steps:
        name += f", {recover_steps} steps of recovery"
        recipe = _recovery(model, source.tokenizer, recover_steps)
        losses = SampledLoss(model) if recipe.train.head_tokens else FullLoss(model)
        tune(model, losses, recipe, data, source.tokenizer, device=device, after_step=lambda: apply_masks(model, kept))
    return Compressed(name, model, {"prune": settings})


def _recovery(model: GPT, tokenizer: Tokenizer, steps: int) -> Recipe:
    """Low rates that fall to zero: the weights are trained, only the holes in them are new."""
    shape = model.config
    train = TrainConfig(
        total_tokens=steps * _BATCH_TOKENS,
        batch_tokens=_BATCH_TOKENS,
        row_tokens=1 << min(shape.context_length, _LONGEST_ROW).bit_length() - 1,
        head_tokens=_BATCH_TOKENS if shape.vocab_size > 2 * _BATCH_TOKENS else 0,
        muon_lr=_MUON_LR,
        adam_lr=_ADAM_LR,
        warmup_steps=max(steps // 20, 1),
        decay_share=1.0,
        final_lr=0.0,
        seed=_SEED,
    )
    return Recipe("recovery", shape, train, like_training(tokenizer))

"""The short training loop behind recovery and distillation: one process, training's batches, optimizers, schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from inference_service.model.gpt import GPT
from inference_service.model.tokenizer import Tokenizer
from training import checkpoint
from training.batches import Batches
from training.checkpoint import BadCheckpoint
from training.distributed import Ranks, find_device
from training.fim import RowSampler
from training.guard import Diverged
from training.interrupt import Interrupted, caught_signals
from training.optimizer import build_optimizers
from training.precision import matrix_type
from training.recipe import Recipe
from training.schedule import learning_rate
from training.shards import open_split

_SAVE_EVERY = 100  # steps


def tune(
    model: GPT,
    losses: nn.Module,
    recipe: Recipe,
    data: Path,
    tokenizer: Tokenizer,
    *,
    device: str = "cpu",
    after_step: Callable[[], object] = lambda: None,
    saved: Path | None = None,
    origin: dict[str, Any] | None = None,
) -> None:
    """Train `model`, in place, for the steps of `recipe`; `losses` holds the model and takes a micro-batch.

    With `saved` the state is kept there, and resumed from when the file's `origin` is the same. The model ends on the
    CPU, in evaluation mode. Raises NoDevice, BadShard, BadCheckpoint, Interrupted, or Diverged on a loss that is no
    number.
    """
    config, target = recipe.train, find_device(device)
    dtype = matrix_type(config, target)
    sampler = RowSampler(
        open_split(data, "train", tokenizer), tokenizer, config.row_tokens + 1, recipe.fim, config.seed
    )
    batches = Batches(recipe, sampler, tokenizer, Ranks(0, 1, target))
    losses.to(target)
    model.train().requires_grad_(True)
    optimizers = build_optimizers(model, config)
    step = _resume(saved, model, optimizers, origin) if saved else 0

    def save() -> None:
        if saved:
            checkpoint.write(saved, checkpoint.take(model, optimizers, {"step": step, "origin": origin}))

    with (
        caught_signals() as interruption,
        tqdm(total=config.steps, initial=step, unit="step", disable=None) as bar,
    ):
        for micro_batches, _ in batches.stream(step, ()):
            loss = 0.0
            for micro_batch in micro_batches:
                weight = len(micro_batch[0]) / config.rows
                with torch.autocast(target.type, dtype=dtype, enabled=dtype is torch.bfloat16):
                    part = losses(*(tensor.to(target) for tensor in micro_batch)) * weight
                part.backward()
                loss += float(part.detach())
            if not math.isfinite(loss):
                raise Diverged(f"loss {loss} at step {step + 1}: lower the learning rates of recipe {recipe.name}")
            if config.clip_norm:
                torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak_lr"] * learning_rate(config, step)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            after_step()
            step += 1
            bar.set_postfix(loss=f"{loss:.3f}")
            bar.update()
            if step % _SAVE_EVERY == 0 or step == config.steps or interruption.signal:
                save()
            if interruption.signal:
                kept = f"run the same command again to go on from {saved}" if saved else "nothing was written"
                raise Interrupted(f"stopped at step {step} of {config.steps}; {kept}", 128 + interruption.signal)
    model.to("cpu").eval().requires_grad_(False)


def _resume(saved: Path, model: GPT, optimizers: list[torch.optim.Optimizer], origin: dict[str, Any] | None) -> int:
    snapshot = checkpoint.latest(saved)
    if snapshot is None:
        return 0
    try:
        if snapshot.state.get("origin") != origin:
            raise ValueError("it is of another teacher, student or data")
        checkpoint.restore(snapshot, model, optimizers)
    except ValueError as error:
        raise BadCheckpoint(f"{saved} cannot be resumed from: {error}; give another folder for it") from error
    return snapshot.step

"""The train stage: one loop, top to bottom. One process, or many under torchrun (gloo on CPUs, nccl on GPUs)."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from inference_service.model.gpt import GPT
from inference_service.model.tokenizer import Tokenizer
from training import checkpoint
from training.fim import RowSampler
from training.optimizer import Muon
from training.recipe import BadRecipe, Recipe, TrainConfig
from training.sampled_softmax import SampledLoss, sample_head
from training.shards import open_shard

LOG_EVERY = 10  # steps


class FullLoss(nn.Module):
    """Inputs (B, T) and targets (B * T,) -> mean next-token loss in nats; compiled as one graph."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.model(inputs).flatten(0, 1), targets)


def loss_inputs(rows: np.ndarray, recipe: Recipe, draw: int) -> list[Tensor]:
    """What the loss module takes for rows (B, T + 1); `draw` numbers the sample of the head."""
    inputs, targets = torch.from_numpy(rows[:, :-1].copy()), rows[:, 1:].reshape(-1)
    if not recipe.train.head_tokens:
        return [inputs, torch.from_numpy(targets.copy())]
    rng = np.random.default_rng([recipe.train.seed, draw])
    sample = sample_head(targets, recipe.model.vocab_size, recipe.train.head_tokens, rng)
    return [inputs, sample.tokens, sample.offsets, sample.targets]


def learning_rate(config: TrainConfig, step: int) -> float:
    """Factor on the peak rates at `step`."""
    total = config.total_tokens // config.batch_tokens
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    left = (total - step) / max(config.decay_share * total, 1)
    return config.final_lr + (1 - config.final_lr) * min(left, 1.0)


def build_optimizers(model: GPT, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the embedding."""
    matrices = list(model.blocks.parameters())
    return [
        Muon(matrices, config.muon_lr, config.momentum, config.weight_decay),
        torch.optim.AdamW(
            model.embedding.parameters(), lr=config.adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True
        ),
    ]


def train(
    recipe: Recipe, data: Path, out: Path, *, device: str = "cpu", threads: int = 0, compiled: bool = True
) -> float:
    """Train until the recipe's tokens are done, resuming from `out/checkpoint.safetensors`; returns the last loss.

    Raises BadRecipe, BadShard or BadCheckpoint on input that cannot be used.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    target = torch.device("cuda", local) if device == "cuda" else torch.device("cpu")
    if world > 1:
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=timedelta(minutes=5))
    if threads:
        torch.set_num_threads(threads)
    config = recipe.train
    rows_per_step, rest = divmod(config.batch_tokens, config.row_tokens)
    if rest or rows_per_step % world:
        raise BadRecipe(
            f"recipe {recipe.name}: batch_tokens {config.batch_tokens} must be rows of {config.row_tokens} tokens, "
            f"their number a multiple of {world} processes"
        )
    tokenizer = Tokenizer.load(data / "tokenizer.tiktoken")
    if tokenizer.vocab_size > recipe.model.vocab_size:
        raise BadRecipe(
            f"recipe {recipe.name}: vocab_size {recipe.model.vocab_size} < tokenizer's {tokenizer.vocab_size}"
        )
    sampler = RowSampler(
        open_shard(data, "train", tokenizer), tokenizer, config.row_tokens + 1, recipe.fim, config.seed
    )

    torch.manual_seed(config.seed)
    model = GPT(recipe.model)
    model.init_weights(config.seed)
    model.to(target)
    optimizers = build_optimizers(model, config)
    saved = out / "checkpoint.safetensors"
    step = checkpoint.load(saved, model, optimizers) if saved.exists() else 0
    losses: nn.Module = SampledLoss(model) if config.head_tokens else FullLoss(model)
    if compiled:
        losses = torch.compile(losses)  # type: ignore[assignment]
    if world > 1:
        losses = DistributedDataParallel(losses, gradient_as_bucket_view=True)

    total = config.total_tokens // config.batch_tokens
    out.mkdir(parents=True, exist_ok=True)
    log = (out / "log.jsonl").open("a", encoding="utf-8") if rank == 0 else None
    logged = saved_at = time.monotonic()
    loss = math.nan
    while step < total:
        numbers = range(step * rows_per_step + rank, (step + 1) * rows_per_step, world)
        batch = loss_inputs(np.array([sampler.row(number) for number in numbers]), recipe, step * world + rank)
        factor = learning_rate(config, step)
        for optimizer, peak in zip(optimizers, (config.muon_lr, config.adam_lr), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
        # many CPUs multiply bfloat16 slower than float32
        with torch.autocast(target.type, dtype=torch.bfloat16, enabled=target.type == "cuda"):
            batch_loss = losses(*(tensor.to(target) for tensor in batch))
        batch_loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % LOG_EVERY == 0 or step == total:
            mean = batch_loss.detach().clone()
            if world > 1:
                dist.all_reduce(mean, dist.ReduceOp.AVG if device == "cuda" else dist.ReduceOp.SUM)
                mean = mean if device == "cuda" else mean / world
            loss = float(mean)
            now = time.monotonic()
            rate = min(LOG_EVERY, step) * config.batch_tokens / (now - logged)
            logged = now
            if log:
                left = (total - step) * config.batch_tokens / rate / 60
                line = {
                    "step": step,
                    "tokens": step * config.batch_tokens,
                    "loss": round(loss, 4),
                    "lr": round(factor, 4),
                }
                print(json.dumps(line | {"tokens_per_s": round(rate)}), file=log, flush=True)
                print(
                    f"\rstep {step}/{total}  loss {loss:.3f}  {rate:,.0f} tok/s  {left:.0f} min left ",
                    end="", file=sys.stderr, flush=True,
                )  # fmt: skip
            if not math.isfinite(loss):
                raise FloatingPointError(f"loss is {loss} at step {step}: resume from {saved} with a lower rate")
        if rank == 0 and (step == total or time.monotonic() - saved_at > config.checkpoint_minutes * 60):
            checkpoint.save(saved, step, model, optimizers)
            saved_at = time.monotonic()
    if world > 1:
        dist.destroy_process_group()
    print(file=sys.stderr)
    return loss

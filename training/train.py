"""The train stage: one loop, top to bottom. One process, or many under torchrun (gloo on CPUs, nccl on GPUs)."""

from __future__ import annotations

import math
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from inference_service.model.gpt import GPT
from inference_service.model.tokenizer import Tokenizer
from training import checkpoint
from training.batches import Batches, batch_number
from training.checkpoint import BadCheckpoint, Snapshot
from training.distributed import Ranks, process_group
from training.fim import RowSampler
from training.guard import REWINDS, Diverged, Guard, to_skip
from training.initial import initial_model
from training.interrupt import Interrupted, caught_signals
from training.optimizer import build_optimizers
from training.peak import flops_per_token, measured_peak
from training.precision import matrix_type
from training.recipe import BadRecipe, Recipe
from training.run_log import RunLog
from training.sampled_softmax import FullLoss, SampledLoss
from training.schedule import learning_rate
from training.shards import load_tokenizer, open_split


def train(
    recipe: Recipe, data: Path, out: Path, *, device: str = "cpu", threads: int = 0, compiled: bool = True
) -> float:
    """Train until the recipe's tokens are done, resuming from the checkpoint in `out`; returns the last loss.

    Raises BadRecipe, BadShard, BadStart, BadModel or BadCheckpoint on input that cannot be used, Diverged when going
    back does not help, CheckpointNotWritten on a full disk, Interrupted after SIGINT or SIGTERM.
    """
    if threads:
        torch.set_num_threads(threads)
    with process_group(device) as ranks, caught_signals() as interruption:
        tokenizer = _tokenizer(recipe, data)
        shard = open_split(data, "train", tokenizer)
        sampler = RowSampler(shard, tokenizer, recipe.train.row_tokens + 1, recipe.fim, recipe.train.seed)
        batches = Batches(recipe, sampler, tokenizer, ranks)
        run = Run.start(recipe, tokenizer, out / checkpoint.FILE, ranks, compiled)
        config, step, guard = recipe.train, run.good.step, Guard.from_state(run.good.state)
        (peak,) = ranks.total(measured_peak(ranks.device, matrix_type(config, ranks.device)))
        flops = flops_per_token(run.model, recipe)
        writer = checkpoint.Writer(out / checkpoint.FILE) if ranks.first else None
        log = RunLog(out, step, config.steps, guard.skipped) if ranks.first else None
        if ranks.first:
            recipe.save(out / f"{recipe.name}.json")

        stream, rewinds, saved = batches.stream(step, guard.skipped), 0, time.monotonic()
        while step < config.steps:
            started = time.monotonic()
            micro_batches, target_bytes = next(stream)
            waited = time.monotonic() - started
            share = run.accumulate_gradient(micro_batches)
            due = ranks.first and time.monotonic() - saved >= config.checkpoint_minutes * 60
            loss, norm, in_bytes, waited, checkpoints, signals = ranks.total(
                float(share),
                float(run.gradient_norm()) / ranks.world,  # one judgement for all, even where they round differently
                target_bytes,
                waited / ranks.world,
                due,
                interruption.signal,
            )

            if problem := guard.problem(loss, norm):
                if rewinds == REWINDS:
                    raise Diverged(
                        f"step {step + 1}: {problem}, after going back to step {run.good.step} {rewinds} times: lower "
                        f"the learning rates of recipe {recipe.name}, or start again from another seed"
                    )
                seen = [batch_number(past, guard.skipped) for past in range(run.good.step, step + 1)]
                skipped = [*guard.skipped, *to_skip(seen, rewinds)]
                guard, at, rewinds = Guard.from_state(run.good.state | {"skipped": skipped}), step + 1, rewinds + 1
                step = run.rewind()
                stream.close()
                stream = batches.stream(step, guard.skipped)
                if log:
                    log.rewind(step, at, problem, guard.skipped)
                continue

            guard.accept(loss, norm)
            rate = run.update(step, norm)
            step += 1
            if log and writer:
                values = {
                    "step": step,
                    "tokens": step * config.batch_tokens,
                    "loss": round(loss, 6),
                    "bits_per_byte": round(loss / math.log(2) * config.batch_tokens / max(in_bytes, 1), 4),
                    "grad_norm": round(norm, 4),
                    "lr": round(rate, 8),
                }
                log.step(values, waited, config.batch_tokens, flops, peak)
                writer.check()
            if checkpoints or signals or step == config.steps:
                run.good = run.snapshot(step, guard)
                rewinds, saved = 0, time.monotonic()
                if log and writer:
                    writer.save(run.good)
                    log.draw(finished=step == config.steps)
            if signals:
                break

        if log and writer:
            writer.wait()
            log.close()
            print(file=sys.stderr)
    if step < config.steps:
        raise Interrupted(
            f"stopped at step {step} of {config.steps}; run the same command again to go on from "
            f"{out / checkpoint.FILE}",
            128 + (interruption.signal or signal.SIGTERM),
        )
    return guard.losses[-1] if guard.losses else math.nan


@dataclass
class Run:
    """What a step works on, and `good`: the last checkpoint, in memory.

    `tables` are the parameters whose gradients the processes exchange by rows.
    """

    recipe: Recipe
    ranks: Ranks
    tokenizer: Tokenizer
    model: GPT
    losses: nn.Module
    optimizers: list[torch.optim.Optimizer]
    good: Snapshot
    tables: list[nn.Parameter] = field(default_factory=list)

    @classmethod
    def start(cls, recipe: Recipe, tokenizer: Tokenizer, saved: Path, ranks: Ranks, compiled: bool) -> Run:
        """Build the model and its optimizers, as the checkpoint `saved` has them, or fresh."""
        config = recipe.train
        torch.manual_seed(config.seed)
        resumed = checkpoint.share(checkpoint.latest(saved) if ranks.first else None, ranks)
        model = initial_model(recipe.model, config.seed, recipe.start if resumed is None else None, tokenizer)
        model.to(ranks.device)
        optimizers = build_optimizers(model, config)
        if resumed:
            if ranks.first:
                print(f"{saved}: going on from step {resumed.step}", file=sys.stderr)
            _check_origin(resumed, saved, recipe, tokenizer)
            try:
                checkpoint.restore(resumed, model, optimizers)
            except ValueError as error:
                raise BadCheckpoint(f"{saved} cannot be resumed from: {error}; take another --out") from error
        losses: nn.Module = SampledLoss(model) if recipe.head_tokens else FullLoss(model)
        if compiled:
            losses = torch.compile(losses)  # type: ignore[assignment]
        tables: list[nn.Parameter] = []
        if ranks.world > 1:
            tables = _tables(model) if ranks.device.type == "cpu" else []  # a GPU would wait to learn how many rows
            apart = {id(table) for table in tables}
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(
                losses, [name for name, parameter in losses.named_parameters() if id(parameter) in apart]
            )
            losses = DistributedDataParallel(losses, gradient_as_bucket_view=True)
        run = cls(recipe, ranks, tokenizer, model, losses, optimizers, Snapshot({}, {}), tables)
        run.good = resumed or run.snapshot(0, Guard())
        return run

    def accumulate_gradient(self, micro_batches: list[list[Tensor]]) -> Tensor:
        """Add up the gradient of the global batch's mean loss; returns this process's part of that loss.

        Each micro-batch counts by its rows: the same gradient as one big batch, however it is divided.
        """
        device, world = self.ranks.device, self.ranks.world
        dtype = matrix_type(self.recipe.train, device)
        part = torch.zeros((), device=device)
        for i, micro_batch in enumerate(micro_batches, start=1):
            weight = len(micro_batch[0]) / self.recipe.train.rows
            alone = isinstance(self.losses, DistributedDataParallel) and i < len(micro_batches)
            with self.losses.no_sync() if alone else nullcontext():  # type: ignore[operator]
                with torch.autocast(device.type, dtype=dtype, enabled=dtype is torch.bfloat16):
                    loss = self.losses(*(tensor.to(device) for tensor in micro_batch))
                (loss * (weight * world)).backward()  # DistributedDataParallel takes the mean over the processes
            part += loss.detach() * weight
        for table in self.tables:
            assert table.grad is not None
            self.ranks.mean_of_touched_rows(table.grad)
        return part

    def gradient_norm(self) -> Tensor:
        return torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])

    def update(self, step: int, norm: float) -> float:
        """Let the optimizers use the gradient, then clear it; returns the first one's learning rate."""
        clip, factor = self.recipe.train.clip_norm, learning_rate(self.recipe.train, step)
        if clip and norm > clip:
            torch._foreach_mul_([p.grad for p in self.model.parameters() if p.grad is not None], clip / norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(self.optimizers[0].param_groups[0]["lr"])

    def snapshot(self, step: int, guard: Guard) -> Snapshot:
        origin = {"tokenizer": self.tokenizer.digest, "optimizer": self.recipe.train.optimizer}
        return checkpoint.take(self.model, self.optimizers, {"step": step} | origin | guard.state())

    def rewind(self) -> int:
        """Back to the last checkpoint; returns its step."""
        checkpoint.restore(self.good, self.model, self.optimizers)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        return self.good.step


def _tables(model: GPT) -> list[nn.Parameter]:
    """The tables of embeddings whose rows a batch looks up."""
    found = (model.embedding, model.bigrams)
    return [table.weight for table in found if isinstance(table, nn.Embedding)]  # type: ignore[misc]


def _tokenizer(recipe: Recipe, data: Path) -> Tokenizer:
    tokenizer = load_tokenizer(data)
    if tokenizer.vocab_size > recipe.model.vocab_size:
        raise BadRecipe(
            f"recipe {recipe.name}: vocab_size {recipe.model.vocab_size} is less than the {tokenizer.vocab_size} of "
            f"{data / 'tokenizer.tiktoken'}: raise it"
        )
    return tokenizer


def _check_origin(resumed: Snapshot, saved: Path, recipe: Recipe, tokenizer: Tokenizer) -> None:
    """Raises BadCheckpoint when going on would mix two trainings; older checkpoints do not tell."""
    if resumed.state.get("tokenizer", tokenizer.digest) != tokenizer.digest:
        raise BadCheckpoint(f"{saved} was trained with another tokenizer than the data's: take another --out")
    if resumed.state.get("optimizer", "muon") != recipe.train.optimizer:
        raise BadCheckpoint(f"{saved} was trained with another optimizer than {recipe.name}'s: take another --out")

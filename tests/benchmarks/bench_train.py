"""Training beside a plain loop as nanoGPT has it: the same shape, batches and threads, on this machine's CPU.

The plain loop multiplies in float32, steps with AdamW and computes the loss over the whole vocabulary; both are
compiled by torch. MFU is over what large matrices of each one's type reach, rates are those of the last 20 steps.
Prints a table and writes a result.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.benchmarks import record
from training.peak import measured_peak
from training.recipe import Recipe, load_recipe
from training.shards import load_tokenizer, open_split
from training.train import train

LAST = 20


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.norm_1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*qkv, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class PlainGPT(nn.Module):
    """GPT-2 with a tied head; returns the mean loss."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        shape = recipe.model
        self.tokens = nn.Embedding(shape.vocab_size, shape.d_model)
        self.positions = nn.Embedding(recipe.train.row_tokens, shape.d_model)
        self.blocks = nn.Sequential(*(Block(shape.d_model, shape.n_head) for _ in range(shape.n_layer)))
        self.norm = nn.LayerNorm(shape.d_model)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        logits = F.linear(self.norm(self.blocks(x)), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def flops_per_token(self, row_tokens: int) -> int:
        """As training.peak counts them."""
        matrices = sum(p.numel() for p in self.blocks.parameters() if p.dim() == 2) + self.tokens.weight.numel()
        width = self.tokens.weight.shape[1]
        return 6 * matrices + 12 * len(self.blocks) * width * row_tokens


def plain_loop(recipe: Recipe, data: Path, steps: int) -> dict[str, float]:
    """Random places of all training tokens in a row, a step for each batch."""
    shard = open_split(data, "train", load_tokenizer(data))
    tokens = np.concatenate([shard.document(i) for i in range(min(len(shard), 4000))]).astype(np.int64)
    torch.manual_seed(0)
    model, length, chance = PlainGPT(recipe), recipe.train.row_tokens, np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    loss_of = torch.compile(model)
    times, loss = [], torch.tensor(0.0)
    for _ in range(steps):
        starts = chance.integers(0, len(tokens) - length - 1, recipe.train.rows)
        rows = torch.from_numpy(np.stack([tokens[start : start + length + 1] for start in starts]))
        loss = loss_of(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.monotonic())
    peak = measured_peak(torch.device("cpu"), torch.float32)  # now: what was measured first came out lower
    rate = LAST * recipe.train.batch_tokens / (times[-1] - times[-1 - LAST])
    return {"tokens_per_s": rate, "mfu": rate * model.flops_per_token(length) / peak, "last_loss": float(loss.detach())}


def ours(recipe: Recipe, data: Path, threads: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, data, Path(folder), threads=threads)
        last = json.loads((Path(folder) / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return {"tokens_per_s": last["tokens_per_s"], "mfu": last["mfu"], "last_loss": last["loss"]}


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--recipe", default="nano")
    parser.add_argument("--data", type=Path, default=Path(".runs/data"))
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.steps <= LAST:
        parser.error(f"--steps must be more than {LAST}: the first ones compile")
    record.need(args.data)
    torch.set_num_threads(args.threads)
    recipe = load_recipe(args.recipe)
    shorter = {"total_tokens": args.steps * recipe.train.batch_tokens, "checkpoint_minutes": 1e9}
    recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, **shorter))
    whole = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, head_tokens=0, precision="float32"))
    loops = {
        "plain loop": plain_loop(recipe, args.data, args.steps),
        "ours, float32, loss over the whole vocabulary": ours(whole, args.data, args.threads),
        "ours, as the recipe says": ours(recipe, args.data, args.threads),
    }
    print(f"| {args.recipe}, {args.steps} steps | tokens/s | to the plain loop | MFU | loss at the end |")
    print("|---" * 5 + "|")
    for name, one in loops.items():
        ratio = one["tokens_per_s"] / loops["plain loop"]["tokens_per_s"]
        print(f"| {name} | {one['tokens_per_s']:,.0f} | {ratio:.2f} | {one['mfu']:.1%} | {one['last_loss']:.2f} |")
    record.write("train", {"recipe": args.recipe, "steps": args.steps, "loops": loops}, args.results)


if __name__ == "__main__":
    main()

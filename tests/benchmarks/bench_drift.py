"""What compression costs: every kind of it, from one model, on the same held-out packages.

    python -m tests.benchmarks.bench_drift [--model .runs/nano] [--data .runs/data]

Each row is what a CPU would serve from the directory that the stage writes, the gate is the stage's own. A run folder
has the float weights that all of it should start from; of the bundled model only int8 rows are there, which are
widened, so that int8 seems to cost nothing. Prints a table and writes a result.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import record
from training import checkpoint
from training.compress.distill import distill
from training.compress.drift import HOLES, PIECES, HeldOut
from training.compress.gate import DISTILLED, INT4, INT8, PRUNED, Gate
from training.compress.prune import prune
from training.compress.quantize import int4_gptq, int4_nearest, int8, int8_nearest
from training.compress.release import Compressed, measure_compressed, measure_float
from training.compress.source import Source, like_training, open_source
from training.compress.table import markdown
from training.recipe import Recipe, TrainConfig

BATCH_TOKENS = 4096
RUN = Path(".runs/nano")  # what `midfill-train train nano` leaves


def every_kind(source: Source, data: Path, steps: int, scratch: Path) -> Iterator[tuple[Compressed, Gate]]:
    """Each compressed model with its gate; recovery and distillation take `steps` steps of 4,096 tokens."""
    yield int8_nearest(source), INT8
    yield int8(source, data), INT8
    for group in (32, 64):
        yield int4_nearest(source, group), INT4
        yield int4_gptq(source, group, data), INT4
    for two_of_four in (False, True):
        for recover_steps in (0, steps):
            yield prune(source, data, sparsity=0.5, two_of_four=two_of_four, recover_steps=recover_steps), PRUNED
    student, _ = distill(source, student_recipe(source, steps), data, scratch, temperature=2.0, soft_share=0.7)
    yield replace(student, name=f"{student.name}, {steps} steps"), DISTILLED


def student_recipe(source: Source, steps: int) -> Recipe:
    """Half of the layers, trained at falling rates."""
    config = source.model.config
    train = TrainConfig(
        total_tokens=steps * BATCH_TOKENS,
        batch_tokens=BATCH_TOKENS,
        row_tokens=min(config.context_length, 1024),
        muon_lr=0.01,
        adam_lr=0.0015,
        warmup_steps=max(steps // 20, 1),
        decay_share=1.0,
        final_lr=0.0,
    )
    student = replace(config, n_layer=max(config.n_layer // 2, 1))
    return Recipe("half", student, train, like_training(source.tokenizer))


def main() -> None:
    parser = record.parser(__doc__)
    start = str(RUN) if (RUN / checkpoint.FILE).exists() else "nano"
    parser.add_argument(
        "--model", default=start, help=f"run folder, model directory or name ({RUN} if it is there, else nano)"
    )
    parser.add_argument("--recipe", help="of a run whose folder does not hold it")
    parser.add_argument("--data", type=Path, default=Path(".runs/data"))
    parser.add_argument("--steps", type=int, default=200, help="of recovery and of distillation")
    parser.add_argument("--pieces", type=int, default=PIECES, help="held-out windows")
    parser.add_argument("--holes", type=int, default=HOLES, help="held-out lines")
    args = parser.parse_args()
    record.need(args.data)

    source = open_source(args.model, args.data, args.recipe)
    held = HeldOut.open(args.data, source.tokenizer, args.pieces, args.holes)
    rows = [measure_float(source, held)]
    with tempfile.TemporaryDirectory() as scratch:
        for compressed, gate in every_kind(source, args.data, args.steps, Path(scratch) / "student"):
            path = Path(scratch) / "model"
            rows.append(measure_compressed(source, compressed, held, gate, rows[0].figures, path))
            print(f"{rows[-1].name}: {'; '.join(rows[-1].problems or []) or 'passes'}", file=sys.stderr, flush=True)
    print(markdown(rows))
    held_out = {"windows": len(held.pieces), "lines": len(held.holes)}
    figures = {"model": args.model, "steps": args.steps, **held_out, "rows": [row.values() for row in rows]}
    record.write("drift", figures, args.results)


if __name__ == "__main__":
    main()

"""What hiding unsure completions costs and brings: lines of held-out packages, by confidence threshold.

Needs the prepared held-out split (`midfill-train collect` and `prepare`). Prints a table and writes a result.
"""

from __future__ import annotations

import asyncio
import math
import re
from pathlib import Path

from inference_service.backends.local import LocalBackend
from inference_service.engine.request import CompletionRequest
from inference_service.model.tokenizer import Tokenizer
from tests.benchmarks import record
from training.evaluate.holes import Hole, line_holes
from training.evaluate.loss import windows
from training.shards import open_split

THRESHOLDS = (0, 10, 20, 30, 40, 50, 60, 70)  # per cent
SEED = 7


async def complete(model: str, holes: list[Hole]) -> list[tuple[float, bool, bool]]:
    """(confidence, whole line right, first word right) of each hole that got a completion."""
    backend, outcomes = LocalBackend(model), []
    await backend.start()
    for hole in holes:
        request = CompletionRequest(hole.prefix, suffix=hole.suffix, path=hole.path, mode="line", max_tokens=48)
        chunks = [chunk async for chunk in backend.complete(request)]
        text, wanted = "".join(chunk.text for chunk in chunks).strip(), hole.middle.strip()
        stats = chunks[-1].stats
        if text and stats is not None and stats.mean_logprob is not None:
            outcomes.append((math.exp(stats.mean_logprob), text == wanted, first_word(text) == first_word(wanted)))
    await backend.stop()
    return outcomes


def first_word(text: str) -> str:
    found = re.match(r"\w+|\W", text)
    return found[0] if found else ""


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--data", type=Path, default=Path(".runs/data"))
    parser.add_argument("--model", default="nano")
    args = parser.parse_args()
    record.need(args.data)
    tokenizer = Tokenizer.load(args.data / "tokenizer.tiktoken")
    pieces = windows(open_split(args.data, "heldout", tokenizer), tokenizer, 500, SEED)
    holes = line_holes(pieces, 350, SEED, whole_line=False) + line_holes(pieces, 100, SEED, whole_line=True)
    outcomes = asyncio.run(complete(args.model, holes))
    right = sum(exact for _, exact, _ in outcomes)
    rows = []
    print("| hidden below | shown | first word right | line right | of the right lines kept |\n|---|---|---|---|---|")
    for threshold in THRESHOLDS:
        shown = [outcome for outcome in outcomes if outcome[0] * 100 >= threshold]
        exact, first = sum(o[1] for o in shown), sum(o[2] for o in shown)
        row = (len(shown) / len(outcomes), first / len(shown), exact / len(shown), exact / right)
        print(f"| {threshold} % | " + " | ".join(f"{value:.0%}" for value in row) + " |")
        rows.append({"threshold": threshold, "shown": row[0], "first_word": row[1], "line": row[2], "kept": row[3]})
    record.write("confidence", {"holes": len(holes), "completions": len(outcomes), "rows": rows}, args.results)


if __name__ == "__main__":
    main()

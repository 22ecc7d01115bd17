"""The engine beside llama.cpp, CTranslate2 and transformers: GPT-2's shape, the same random weights, the same run.

The contestants take turns, so that a busy machine is as busy for each of them; the best of the rounds counts. Peers:
`pip install --constraint constraints.txt -e '.[bench]'`, which compiles llama.cpp for this processor.
Prints a table and writes a result.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks import record
from tests.benchmarks.peers import Ours, code, present

PREFILL, PROMPT, DECODED = 512, 64, 64


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--without", action="append", default=[], help="name of a contestant to leave out")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "midfill-peers")
    args = parser.parse_args()
    loaded, found = present(args.work, args.threads, args.streams, args.without)
    contestants = {name: one for name, one in found.items() if not isinstance(one, str)}
    pieces = (ids for ids in code(loaded.tokenizer) if len(ids) > PREFILL)
    measures = {
        "decode, 1 stream, tokens/s": lambda one, texts: DECODED / one.decode(texts[0][:PROMPT], DECODED),
        f"prefill of {PREFILL} tokens, tokens/s": lambda one, texts: PREFILL / one.prefill(texts[0][:PREFILL]),
        f"{args.streams} streams, total tokens/s": lambda one, texts: (
            args.streams * DECODED / one.streams([text[:PROMPT] for text in texts], DECODED)
        ),
    }
    best = {measure: dict.fromkeys(contestants, 0.0) for measure in measures}
    for measure, figure in measures.items():
        for number in range(args.rounds):
            for name, one in contestants.items():
                texts = [next(pieces) for _ in range(args.streams if "streams" in measure else 1)]
                time.sleep(0.3)  # some pools of threads spin for a while after their work
                value = figure(one, texts)
                if number or args.rounds == 1:  # the first round warms up
                    best[measure][name] = max(best[measure][name], value)
    told = list(found)
    titles = [cell for name in told for cell in ([name] if name == Ours.name else [name, "ratio"])]
    print(f"| | {' | '.join(titles)} |")
    print("|---" * (2 * len(told)) + "|")
    for measure, values in best.items():
        cells = []
        for name in told:
            if name == Ours.name:
                cells.append(f"{values[name]:.0f}")
            elif name in values:
                cells += [f"{values[name]:.0f}", f"{values[Ours.name] / values[name]:.2f}"]
            else:
                cells += [found[name], ""]
        print(f"| {measure} | {' | '.join(cells)} |")
    kernels = {name: one.kernel for name, one in contestants.items()}
    absent = {name: one for name, one in found.items() if isinstance(one, str)}
    figures = {
        "best": best, "rounds": args.rounds, "kernels": kernels, "absent": absent, "threads": args.threads,
    }  # fmt: skip
    record.write("peers", figures, args.results)
    contestants[Ours.name].close()
    missing = [f"{name} is {why}" for name, why in absent.items() if name not in args.without]
    if missing:
        sys.exit(f"not measured: {', '.join(missing)}; pip install --constraint constraints.txt -e '.[bench]'")


if __name__ == "__main__":
    main()

"""midfill-train evaluate"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from training.commands.stages import Stages, data_option

if TYPE_CHECKING:
    from inference_service.model.directory import LoadedModel
    from inference_service.model.gpt import GPT


def add(stages: Stages) -> None:
    parser = stages.add(
        "evaluate",
        _run,
        "measure a model directory on held-out packages, or run a benchmark file",
        "nano --data .runs/data --json nano.json",
    )
    parser.add_argument(
        "model", nargs="?", help="model directory, ours or in Hugging Face layout, or name of a bundled model"
    )
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help="measure two models on the same code instead")
    data_option(parser)
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default 1, enough for small models)")
    parser.add_argument("--holes", type=int, default=300, help="places of a kind to fill in (default 300)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    benchmark = parser.add_argument_group("benchmark")
    benchmark.add_argument("--benchmark", type=Path, metavar="FILE", help="problems, .jsonl or .jsonl.gz: pass@k")
    benchmark.add_argument("--left-to-right", action="store_true", help="do not show the code after the hole")
    benchmark.add_argument(
        "--mode",
        choices=("auto", "line", "block"),
        default="auto",
        help="where an infilling ends, as in the service: by the model (default), with its line, with its block",
    )
    benchmark.add_argument("--samples", type=int, default=1, help="completions a problem (default 1)")
    benchmark.add_argument("--k", type=_counts, default=[1], help="which pass@k, as in 1,10 (default 1)")
    benchmark.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default 0)")
    benchmark.add_argument("--max-tokens", type=int, default=256, help="longest completion (default 256)")
    benchmark.add_argument(
        "--seconds", type=int, default=5, help="processor time of a completion with its test (default 5)"
    )


def _run(args: argparse.Namespace) -> None:
    import torch

    if (args.model is None) == (args.compare is None):
        raise ValueError("give one model, or two with --compare")
    if args.json and not args.json.absolute().parent.is_dir():
        raise ValueError(f"{args.json.parent} is not a folder: give another --json")
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.compare and args.benchmark:
        raise ValueError("--benchmark runs one model at a time: give it without --compare")
    if args.compare:
        _compare(args)
    elif args.benchmark:
        _benchmark(args)
    else:
        _evaluate(args)


def _evaluate(args: argparse.Namespace) -> None:
    from training.evaluate.heldout import held_out, measure
    from training.evaluate.report import figures_json, figures_table, write_json

    loaded, model = _load(args.model)
    measured = measure(model, loaded.tokenizer, held_out(args.data, args.holes))
    print(figures_table({loaded.name: measured}), end="")
    if args.json:
        write_json(args.json, _described(loaded) | figures_json(measured))


def _compare(args: argparse.Namespace) -> None:
    from training.evaluate.heldout import held_out, measure
    from training.evaluate.report import comparison_json, comparison_table, write_json

    models = [_load(name) for name in args.compare]
    material = held_out(args.data, args.holes)
    measured = [measure(model, loaded.tokenizer, material) for loaded, model in models]
    names = [f"{loaded.name} {loaded.version}" for loaded, _ in models]
    print(comparison_table(names, *measured), end="")
    if args.json:
        described = [_described(loaded) for loaded, _ in models]
        write_json(args.json, {"models": described} | comparison_json(*measured))


def _benchmark(args: argparse.Namespace) -> None:
    from training.evaluate.decoding import Decoder
    from training.evaluate.pass_at_k import Sampling, read_problems, run_benchmark
    from training.evaluate.report import benchmark_json, benchmark_table, write_json
    from training.evaluate.sandbox import open_sandbox

    sampling = Sampling(args.samples, args.temperature, args.max_tokens, args.mode, args.seconds)
    sampling.check(args.k)
    problems = read_problems(args.benchmark, left_to_right=args.left_to_right)
    sandbox = open_sandbox()
    print(sandbox.describe(), file=sys.stderr)
    loaded, model = _load(args.model)
    results = run_benchmark(Decoder(model, loaded.tokenizer), problems, sandbox, sampling)
    print(benchmark_table(results, args.k), end="")
    broken = [result.task_id for result in results if not result.solvable]
    if broken:
        print(f"{len(broken)} problems fail here even with their own solution, first {broken[0]}", file=sys.stderr)
    if args.json:
        about = {
            "benchmark": args.benchmark.name,
            "left_to_right": args.left_to_right,
            "mode": args.mode,
            "temperature": args.temperature,
            "sandbox": sandbox.describe(),
        }
        write_json(args.json, _described(loaded) | about | benchmark_json(results, args.k))


def _load(name: str) -> tuple[LoadedModel, GPT]:
    """A model with the int8 weights that are served."""
    from inference_service.model import loading
    from inference_service.model.location import resolve
    from inference_service.model.quantize import round_to_int8

    loaded = loading.load(resolve(name))
    model = loaded.build_float()
    round_to_int8(model, loaded.int8)
    return loaded, model


def _described(loaded: LoadedModel) -> dict[str, str]:
    return {"model": loaded.name, "version": loaded.version}


def _counts(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]

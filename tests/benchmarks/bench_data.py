"""Rates of the data stages on this machine, and what they make of 10B and 1T tokens (docs/training-at-scale.md).

Needs a collected corpus and its tokenizer. Rates are per core: text over the CPU time of all processes of a stage, so
that another load on the machine does not show. Prints tables and writes a result.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference_service.model.tokenizer import END_OF_TEXT
from tests.benchmarks import record
from training.corpus.near_duplicates import PERMUTATIONS, NearDuplicates
from training.documents import Block, read_block
from training.fim import FimConfig, RowSampler
from training.shards import TokenDataset, load_tokenizer, open_split

COLLECTED = 30_000_000  # bytes of source files that collect is timed on
TOKENS = {"10B": 10e9, "1T": 1e12}
MODELS = {"124M": 124e6, "1.5B": 1.5e9}


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a command and all its processes: seconds on the clock and of CPU, and the largest process in bytes."""

    wall: float
    cpu: float
    memory: int


def run(*arguments: object) -> Usage:
    started = time.perf_counter()
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    told = process.stderr.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)}:\n{told}")
    return Usage(time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def write_files(corpus: Path, folder: Path) -> int:
    """Documents of the corpus as files again, a folder a package; returns their bytes."""
    size = 0
    file = corpus / "train.jsonl"
    for document, _ in read_block(Block(file, 0, COLLECTED)):
        path = folder / document.package / document.path
        path.parent.mkdir(parents=True, exist_ok=True)
        size += path.write_bytes(document.text.encode("utf-8", "replace"))
    return size


def fingerprint_bytes(count: int = 20_000) -> float:
    """Memory that the search for near-duplicates takes for a document."""
    rng, index = np.random.default_rng(0), NearDuplicates()
    before = resident()
    for signature in rng.integers(0, 2**32, (count, PERMUTATIONS), dtype=np.uint32):
        index.is_new(signature)
    return (resident() - before) / count


def resident() -> int:
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def sampler_figures(dataset: TokenDataset, data: Path, rows: int = 400, length: int = 1025) -> dict[str, float]:
    tokenizer = load_tokenizer(data)
    sampler = RowSampler(dataset, tokenizer, length, FimConfig(), 0)
    sampler.row(0)
    started = time.process_time()
    made = [sampler.row(number) for number in range(rows)]
    seconds = time.process_time() - started
    ends = sum(row.count(tokenizer.sentinel(END_OF_TEXT)) for row in made)
    return {
        "tokens_per_core_second": rows * length / seconds,
        "end_of_text_share": ends / (rows * length),
        "tokens_per_end_of_text": rows * length / ends,
    }


def measure(corpus: Path, data: Path) -> dict[str, float]:
    text = (corpus / "train.jsonl").stat().st_size + (corpus / "heldout.jsonl").stat().st_size
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        collected = write_files(corpus, scratch / "code")
        folders = [option for path in sorted((scratch / "code").iterdir()) for option in ("--folder", path)]
        collect = run("collect", *folders, "--licence", "MIT", "--workers", 1, "--out", scratch / "corpus")
        tokenizer = run("tokenizer", "--corpus", corpus, "--data", scratch)
        load_tokenizer(data).save(scratch / "tokenizer.tiktoken")
        alone = run("prepare", "--corpus", corpus, "--data", scratch, "--workers", 1)
        for finished in scratch.glob("*-*"):
            shutil.rmtree(finished)
        both = run("prepare", "--corpus", corpus, "--data", scratch, "--workers", 2)
        dataset = open_split(scratch, "train", load_tokenizer(scratch))
        heldout = open_split(scratch, "heldout", load_tokenizer(scratch))
        tokens, files = dataset.total_tokens + heldout.total_tokens, len(dataset) + len(heldout)
        disk = sum(path.stat().st_size for path in scratch.glob("*-*/*"))
        sampler = sampler_figures(dataset, scratch)
    return {
        "collect_bytes_per_core_second": collected / collect.cpu,
        "collect_memory": collect.memory,
        "fingerprint_bytes_per_file": fingerprint_bytes(),
        "tokenizer_core_seconds": tokenizer.cpu,
        "tokenizer_memory": tokenizer.memory,
        "prepare_tokens_per_core_second": tokens / alone.cpu,
        "prepare_tokens_per_core_second_2_workers": tokens / both.cpu,
        "prepare_tokens_per_second_1_worker": tokens / alone.wall,
        "prepare_tokens_per_second_2_workers": tokens / both.wall,
        "prepare_memory": max(alone.memory, both.memory),
        "bytes_per_token": text / tokens,
        "tokens_per_file": tokens / files,
        "disk_bytes_per_token": disk / tokens,
        **{f"sampler_{key}": value for key, value in sampler.items()},
    }


def data_table(m: dict[str, float], core_hour: float, tb_month: float) -> list[str]:
    rows = ["| | " + " | ".join(TOKENS) + " |", "|---|" + "---|" * len(TOKENS)]
    columns = []
    for tokens in TOKENS.values():
        text, files = tokens * m["bytes_per_token"], tokens / m["tokens_per_file"]
        collect = text / m["collect_bytes_per_core_second"] / 3600
        prepare = tokens / m["prepare_tokens_per_core_second"] / 3600
        shards = tokens * m["disk_bytes_per_token"]
        columns.append(
            {
                "files": f"{files / 1e6:,.1f} M",
                "corpus on disk": size(text),
                "collect": f"{collect:,.1f} core-hours",
                "collect --merge, memory": size(files * m["fingerprint_bytes_per_file"]),
                "tokenizer": f"{m['tokenizer_core_seconds']:.0f} core-seconds, {size(m['tokenizer_memory'])}",
                "prepare": f"{prepare:,.1f} core-hours",
                "prepare, memory a worker": size(m["prepare_memory"]),
                "shards on disk": size(shards),
                "cost of the cores": f"{(collect + prepare) * core_hour:,.2f} $",
                "cost of the disk": f"{(text + shards) / 1e12 * tb_month:,.2f} $ a month",
            }
        )
    return rows + [f"| {key} | " + " | ".join(column[key] for column in columns) + " |" for key in columns[0]]


def rates_table(m: dict[str, float]) -> list[str]:
    rates = {
        "collect: parse, filter, scrub, fingerprint": f"{m['collect_bytes_per_core_second'] / 1e6:.1f} MB of code a "
        f"core-second, {size(m['collect_memory'])} a process",
        "collect --merge: near-duplicates": f"{m['fingerprint_bytes_per_file'] / 1e3:.1f} kB of memory a file",
        "tokenizer, 16k ids": f"{m['tokenizer_core_seconds']:.0f} core-seconds, {size(m['tokenizer_memory'])}, for any "
        "corpus",
        "prepare, 1 worker": f"{m['prepare_tokens_per_core_second'] / 1e6:.1f} million tokens a core-second",
        "prepare, 2 workers": f"{m['prepare_tokens_per_core_second_2_workers'] / 1e6:.1f} million tokens a core-second",
        "corpus on disk": f"{m['bytes_per_token']:.2f} bytes a token, {m['tokens_per_file']:,.0f} tokens a file",
        "shards on disk": f"{m['disk_bytes_per_token']:.2f} bytes a token (uint16; twice that for a vocabulary beyond "
        "65,536)",
        "training rows": f"{m['sampler_tokens_per_core_second'] / 1e6:.2f} million tokens a core-second",
    }
    return ["| rate | measured |", "|---|---|", *(f"| {name} | {rate} |" for name, rate in rates.items())]


def train_table(peak: float, mfu: float, gpu_hour: float) -> list[str]:
    rows = ["| weights | tokens | H200 hours | on 8 GPUs | cost |", "|---|---|---|---|---|"]
    for model, weights in MODELS.items():
        for name, tokens in TOKENS.items():
            hours = 6 * weights * tokens / (peak * mfu) / 3600
            nodes = f"{hours / 8:,.1f} hours" if hours < 8 * 48 else f"{hours / 8 / 24:,.1f} days"
            rows.append(f"| {model} | {name} | {hours:,.0f} | {nodes} | {hours * gpu_hour:,.0f} $ |")
    return rows


def size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--corpus", type=Path, default=Path(".runs/corpus"))
    parser.add_argument("--data", type=Path, default=Path(".runs/data"), help="where the tokenizer is")
    parser.add_argument("--core-hour", type=float, default=0.04, help="dollars, assumed (default 0.04)")
    parser.add_argument("--gpu-hour", type=float, default=3.5, help="dollars, assumed (default 3.50)")
    parser.add_argument("--tb-month", type=float, default=23.0, help="dollars a month, assumed (default 23)")
    parser.add_argument("--peak", type=float, default=790e12, help="measured FLOP/s of the GPU (default 790e12)")
    parser.add_argument("--mfu", type=float, default=0.4, help="share of the peak that is reached (default 0.4)")
    args = parser.parse_args()
    record.need(args.corpus, args.data)
    measured = measure(args.corpus, args.data)
    print("\n".join(data_table(measured, args.core_hour, args.tb_month)), end="\n\n")
    print("\n".join(rates_table(measured)), end="\n\n")
    print("\n".join(train_table(args.peak, args.mfu, args.gpu_hour)), end="\n\n")
    prices = {name: getattr(args, name) for name in ("core_hour", "gpu_hour", "tb_month", "peak", "mfu")}
    record.write("data", {"measured": measured, "assumed": prices}, args.results)


if __name__ == "__main__":
    main()

"""What stands first on the page of figures: every ratio to somebody else's or a simpler way; and last: all runs."""

from __future__ import annotations

from dataclasses import dataclass

from tools.figures.results import Result, every
from tools.figures.tables import number, table


@dataclass(frozen=True, slots=True)
class Ratio:
    """`value` above 1 says that ours is better by that factor."""

    what: str
    beside: str
    value: float
    ours: float
    theirs: float
    result: Result


def ratios(newest: dict[str, Result]) -> list[Ratio]:
    """Of each benchmark that compares, as far as it was run."""
    found: list[Ratio] = []

    def add(name: str, what: str, beside: str, ours: float, theirs: float, larger_is_better: bool) -> None:
        if ours and theirs:
            value = ours / theirs if larger_is_better else theirs / ours
            found.append(Ratio(what, beside, value, ours, theirs, newest[name]))

    if "engine" in newest:
        f = newest["engine"].figures
        for peer, title in (("one_slot", "torch's operators, one KV slot"), ("no_cache", "no KV cache")):
            add("engine", "a line, p50 ms", title, f["engine"]["p50_ms"], f[peer]["p50_ms"], False)
        add("engine", "decoding, tokens/s", "torch's operators, one KV slot",
            f["engine"]["decode_tokens_per_s"], f["one_slot"]["decode_tokens_per_s"], True)  # fmt: skip
    if "peers" in newest:
        for measure, values in newest["peers"].figures["best"].items():
            (_, ours), *others = values.items()
            for peer, theirs in others:
                add("peers", f"124M, {measure}", peer, ours, theirs, True)
    if "replay" in newest:
        (_, ours), *others = newest["replay"].figures["p50_ms"].items()
        for peer, theirs in others:
            add("replay", "124M, a completion while typing, p50 ms", peer, ours, theirs, False)
        if over_http := newest["replay"].figures.get("http"):
            every, (fewer, _) = [list(servers.values()) for servers in over_http["ways"].values()]
            add("replay", "124M, keystrokes replayed over HTTP, s", "llama.cpp's server, each keystroke asked",
                every[0]["total_s"], every[1]["total_s"], False)  # fmt: skip
            add("replay", "124M, keystrokes replayed as our language server asks, s",
                "llama.cpp's server, each keystroke asked", fewer["total_s"], every[1]["total_s"], False)  # fmt: skip
    if "service" in newest:
        for editors, servers in newest["service"].figures["editors"].items():
            (_, mine), *rest = servers.items()
            for peer, other in rest:
                what = f"{editors} editor{'s' if editors != '1' else ''}, first token p95 ms"
                add("service", what, peer, mine["ttft_p95_ms"], other["ttft_p95_ms"], False)
    if "lsp-peers" in newest:
        clients = newest["lsp-peers"].figures["clients"]
        ours = clients["midfill-lsp"]["requests"]
        for client, row in clients.items():
            if client != "midfill-lsp":
                add(
                    "lsp-peers",
                    "language server, requests for the same keystrokes",
                    client,
                    ours,
                    row["requests"],
                    False,
                )
    if "speculation" in newest:
        for name, one in newest["speculation"].figures.items():
            add(
                "speculation", f"guessing ahead, {name}, wall time", "without guesses", one["seconds_ratio"], 1.0, False
            )
    if "overhead" in newest:
        servers = newest["overhead"].figures["servers"]
        for other, loads in servers.items():
            if other != "midfill":
                rates = (one["32 clients"]["per_s"] for one in (servers["midfill"], loads))
                add("overhead", "HTTP without a model, 32 clients, answers/s", other, *rates, True)
    if "train" in newest:
        loops = newest["train"].figures["loops"]
        plain = loops["plain loop"]["tokens_per_s"]
        for name, one in loops.items():
            if name != "plain loop":
                add("train", f"{name}, tokens/s", "a plain loop", one["tokens_per_s"], plain, True)
    if "ddp" in newest:
        rates = newest["ddp"].figures["tokens_per_s"]
        add("ddp", "training on two cores, tokens/s", "one core", rates["2"], rates["1"], True)
    if "quality" in newest:
        bits = {name: one["figures"]["bits_per_byte"][0] for name, one in newest["quality"].figures["models"].items()}
        for name in ("4-grams", *(name for name in bits if name.startswith("nano of"))):
            add("quality", "nano, bits per byte of held-out packages", name, bits["nano"], bits[name], False)
    if "gpu" in newest:
        for name, row in newest["gpu"].figures["rows"].items():
            for twin, title in (("compiled_twin_ms", "torch.compile"), ("transformers_ms", "transformers")):
                if twin in row:
                    add("gpu", f"{name}, ms", title, row["ms"], row[twin], False)
    return found


def ratio_table(newest: dict[str, Result]) -> str:
    rows = []
    for one in ratios(newest):
        when = one.result.told["date"][:10] + (", transcribed" if "transcribed" in one.result.told else "")
        rows.append([one.what, one.beside, f"**{one.value:.2f}×**", number(one.ours), number(one.theirs), when])
    return table(["what", "beside", "ours is better by", "ours", "theirs", "date"], rows)


def run_table() -> str:
    """Every kept run, the newest first, with a link to its file."""
    rows = []
    for result in every():
        where = f"../tests/benchmarks/results/{result.path.name}"
        kept = "transcribed" if "transcribed" in result.told else "written by the run"
        rows.append(
            [result.told["date"], f"[{result.benchmark}]({where})", result.machine, result.told["commit"], kept]
        )
    return table(["date", "benchmark", "machine", "commit", "figures"], rows)

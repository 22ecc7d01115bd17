"""The pages' tables: each turns the figures of one benchmark into Markdown. Ratios stand before what they are of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Figures = dict[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown; None is an empty cell."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join("" if cell is None else str(cell) for cell in line) + " |" for line in lines)


def number(value: float | None) -> str:
    """Three digits, or all before the point."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def times(value: float | None) -> str:
    return "" if value is None else f"**{value:.2f}×**"


def lsp(f: Figures) -> str:
    titles = {
        "asked": "the model",
        "typed through": "the type-through cache",
        "nothing shown": "nothing to show",
    }
    rows = [
        [titles[kind], one["count"], number(one.get("p50_ms")), number(one.get("p95_ms"))]
        for kind, one in f["requests"].items()
    ]
    answered = table(["answered by", "requests", "p50 ms", "p95 ms"], rows)
    memory = f"{f['rss_mb']} / {f['rss_after_typing_mb']} MB"
    server = table(
        ["language server", "measured", "bar"],
        [
            ["start to `initialize` answer, median of 5", f"{f['initialize_ms']} ms", "1000 ms"],
            ["memory (RSS) after initialize / after typing", memory, "60 MB"],
        ],
    )
    return f"{answered}\n\n{server}"


def lsp_peers(f: Figures) -> str:
    ours = f["clients"]["midfill-lsp"]
    heads = list(ours)
    rows = []
    for name, row in f["clients"].items():
        ratio = times(ours["requests"] / row["requests"]) if row is not ours and row["requests"] else None
        rows.append([name, ratio, *(row[head] for head in heads)])
    return table(["client", "our requests to its", *heads], rows)


def lsp_waste(f: Figures) -> str:
    """Shares are of all tokens that the service computed, read or written."""
    rows = [
        [
            speed, one["keystrokes"], one["requests"], f"{one['tokens']:,}", f"{one['given_up_percent']:.1f} %",
            f"{one['for_nobody_percent']:.1f} %", number(one["shown_per_100"]), number(one["asked_p95_ms"]),
        ]
        for speed, one in f.items()
    ]  # fmt: skip
    return table(
        [
            "service",
            "keystrokes",
            "requests",
            "tokens",
            "of requests given up",
            "for nobody",
            "shown per 100",
            "asked p95 ms",
        ],
        rows,
    )


def engine(f: Figures) -> str:
    rows: list[list[object]] = []
    for key, title in (
        ("p50_ms", "p50 a completion, ms"),
        ("p95_ms", "p95 a completion, ms"),
        ("decode_tokens_per_s", "tokens/s while decoding"),
    ):
        ours = f["engine"][key]
        row: list[object] = [title]
        for peer in ("one_slot", "no_cache"):
            theirs = f[peer][key]
            row += [times(ours / theirs if key.endswith("_s") else theirs / ours), number(theirs)]
        rows.append([*row, number(ours)])
    blank = [None] * 4
    rows.append(["newly prefilled tokens a request, median", *blank, number(f["engine"]["fresh_tokens_p50"])])
    rows.append(["prompt tokens found in the prefix cache", *blank, f"{f['engine']['prefix_hit_percent']:.1f} %"])
    head = [f"{f['requests']} requests", "faster than one KV slot", "one KV slot", "than no cache", "no cache", "ours"]
    return table(head, rows)


def speculation(f: Figures) -> str:
    rows = []
    for name, one in f.items():
        steps = f"{one['plain']['steps']:.0f} to {one['guessing']['steps']:.0f}"
        faster = [times(1 / one[f"{key}_ratio"]) for key in ("seconds", "decode_ms")]
        rows.append([name, *faster, times(1 / one["steps_ratio"]), steps, f"{one['same_text']} of {one['requests']}"])
    return table(["bundled `nano`", "faster", "decoding faster", "fewer steps", "steps", "same text"], rows)


def peers(f: Figures) -> str:
    names = list(next(iter(f["best"].values())))
    others = names[1:]
    rows = []
    for measure, values in f["best"].items():
        ours = values[names[0]]
        rows.append(
            [measure, *(cell for n in others for cell in (times(ours / values[n]), number(values[n]))), number(ours)]
        )
    return table(["", *(cell for n in others for cell in (f"ours to {n}", n)), "ours"], rows)


def replay(f: Figures) -> str:
    rows = []
    for key, title in (("p50_ms", "p50 a completion, ms"), ("total_s", "all together, s")):
        ours, *theirs = f[key].values()
        rows.append(
            [title, times(theirs[0] / ours) if theirs else None, number(theirs[0] if theirs else None), number(ours)]
        )
    rows.append(["newly prefilled tokens a request, median", None, None, number(f["fresh_tokens_p50"])])
    rows.append(["prompt tokens found in the prefix cache", None, None, f"{f['prefix_hit_percent']:.1f} %"])
    engines = table(["124M", "faster than llama.cpp", "llama.cpp Q8_0", "ours"], rows)
    return f"{engines}\n\n{_over_http(f['http'])}" if "http" in f else engines


def _over_http(f: Figures) -> str:
    (every, _), (ours_asked, _) = f["requests"].items()
    rows: list[list[object]] = []

    def add(title: str, mine: float, theirs: float | None = None) -> None:
        rows.append([title, times(theirs / mine if theirs else None), number(theirs), number(mine)])

    mine, theirs = f["ways"][every].values()
    fewer, _ = f["ways"][ours_asked].values()
    add("the whole replay, ours asked as its language server does, theirs at each keystroke, s",
        fewer["total_s"], theirs["total_s"])  # fmt: skip
    for way, servers in f["ways"].items():
        add(f"asked {way}: {f['requests'][way]} requests, s", *(one["total_s"] for one in servers.values()))
    add("p50 a completion, ms", mine["p50_ms"], theirs["p50_ms"])
    found: list[list[object]] = [
        ["newly prefilled tokens a request, median", *(number(one["fresh_tokens_p50"]) for one in (theirs, mine))],
        ["prompt tokens found in the prefix cache", *(f"{one['prefix_hit_percent']:.1f} %" for one in (theirs, mine))],
    ]
    for key, title in (
        ("goodput", "typed at human speed: first token within 100 ms"),
        ("wasted", "typed at human speed: tokens received for a request that was then given up"),
    ):
        found.append([title, *(f"{f['typed'][name][key]:.0%}" for name in reversed(f["typed"]))])
    nobody = f["typed"]["midfill"]["nobody"]
    found.append(["typed at human speed: tokens that the service computed for nobody", None, f"{nobody:.0%}"])
    rows += [[title, None, *cells] for title, *cells in found]
    return table(["124M over HTTP", "faster than llama.cpp's server", "llama.cpp's server", "ours"], rows)


def service(f: Figures) -> str:
    head = ["editors", "server", "goodput", "p50 ms", "p95 ms", "p99 ms", "wasted", "CPU ms a completion in time"]
    rows = []
    for editors, servers in f["editors"].items():
        for name, one in servers.items():
            shares = [f"{one['goodput']:.0%}", *(number(one[f"ttft_{p}_ms"]) for p in ("p50", "p95", "p99"))]
            rows.append([editors, name, *shares, f"{one['wasted_tokens']:.0%}", number(one["cpu_ms_per_good"])])
    kernels = "; ".join(f"{name}: {' '.join(told.replace('|', ',').split())}" for name, told in f["kernels"].items())
    return f"{table(head, rows)}\n\n{f['threads']} threads each. {kernels}."


def overhead(f: Figures) -> str:
    ours, others = f["servers"]["midfill"], [name for name in f["servers"] if name != "midfill"]
    rows = []
    for load, figures in ours.items():
        for name, value in figures.items():
            row: list[object] = [f"{load}, {name.replace('_', ' ')}", number(value)]
            for other in others:
                theirs = f["servers"][other].get(load, {}).get(name)
                row += [times(value / theirs if value and theirs else None), number(theirs)]
            rows.append(row)
    return table(["", "ours", *(cell for other in others for cell in (f"ours to {other}'s", other))], rows)


def gpu(f: Figures) -> str:
    rows = []
    for name, row in f["rows"].items():
        twins = [row.get(f"{twin}_ms") for twin in ("compiled_twin", "transformers")]
        faster = [times(twin / row["ms"]) if twin else None for twin in twins]
        shares = [f"{row[key]:.0%}" if key in row else None for key in ("mbu", "launch_floor")]
        rows.append([name, *faster, number(row["ms"]), number(row.get("tokens_per_s")), *shares])
    head = ["", "faster than a compiled twin", "than transformers", "ms", "tokens/s", "MBU", "of the launch floor"]
    return table(head, rows)


def train(f: Figures) -> str:
    rows = []
    plain = f["loops"]["plain loop"]
    for name, one in f["loops"].items():
        ratio = None if one is plain else times(one["tokens_per_s"] / plain["tokens_per_s"])
        rows.append([name, ratio, number(one["tokens_per_s"]), f"{one['mfu']:.1%}", number(one["last_loss"])])
    return table(
        [f"{f['recipe']}, {f['steps']} steps", "to the plain loop", "tokens/s", "MFU", "loss at the end"], rows
    )


def ddp(f: Figures) -> str:
    one, two = f["tokens_per_s"]["1"], f["tokens_per_s"]["2"]
    rows = [
        ["tokens/s", times(f["ratio"]), number(one), number(two)],
        ["largest difference of a step's loss", f"{f['largest_loss_difference']:.1e}", None, None],
    ]
    return table([f"{f['recipe']}, {f['steps']} steps", "", "1 process, 1 core", "2 processes, a core each"], rows)


def quality(f: Figures) -> str:
    models = f["models"]
    rows: list[list[object]] = []
    for key, label in f["labels"].items():
        rows.append([label, *(_interval(key, one["figures"].get(key)) for one in models.values())])
    seen = [f"{one['tokens_seen'] / 1e6:.1f} million" if one["tokens_seen"] else None for one in models.values()]
    return table(["held-out packages, as served", *models], [*rows, ["tokens seen", *seen]])


def _interval(key: str, figure: Sequence[float] | None) -> str | None:
    """A value with where it is between with 95 % certainty."""
    if figure is None:
        return None
    plain = key.startswith("bits") or key == "chars_saved"
    value, low, high = (f"{one:.3f}" if plain else f"{100 * one:.1f} %" for one in figure)
    return f"{value} ({low} to {high})"


def confidence(f: Figures) -> str:
    keys = ("kept", "shown", "first_word", "line")
    rows = [[f"{row['threshold']} %", *(f"{row[key]:.0%}" for key in keys)] for row in f["rows"]]
    return table(["hidden below", "of the right lines kept", "shown", "first word right", "line right"], rows)


def drift(f: Figures) -> str:
    first = f["rows"][0]

    def grown(row: Figures, key: str) -> str:
        if row[key] is None or row is first:
            return "" if row[key] is None else f"{row[key]:.4f}"
        return f"{row[key] / first[key] - 1:+.1%} ({row[key]:.4f})"

    # the bundled model has nothing but int8 rows: its floats are these, and int8 loses nothing on the way back
    start = "int8 rows of the bundled model, widened" if f["model"] == "nano" else first["name"]
    rows = []
    for row in f["rows"]:
        gate = None if row["problems"] is None else "fails" if row["problems"] else "passes"
        agreement = None if row is first else f"{row['top1_agreement']:.1%}"
        bits = [grown(row, key) for key in ("bits_per_byte", "bits_per_byte_fim")]
        sizes = [f"{row[key]:.1f}" for key in ("weights_mb", "deflated_mb")]
        rows.append(
            [
                start if row is first else row["name"],
                gate,
                *bits,
                agreement,
                f"{row['exact_match']:.1%}",
                *sizes,
                number(row["tokens_per_s"]),
            ]
        )
    head = ["weights", "gate", "bits per byte, left to right", "bits per byte, FIM", "top-1 agreement"]
    return table([*head, "line exact match", "MB", "deflated MB", "tokens/s"], rows)


def tokenizer(f: Figures) -> str:
    return "\n".join(f["report"])


TABLES: dict[str, Callable[[Figures], str]] = {
    "lsp": lsp, "lsp-peers": lsp_peers, "lsp-waste": lsp_waste, "engine": engine, "speculation": speculation,
    "peers": peers, "replay": replay,
    "service": service, "overhead": overhead, "gpu": gpu, "train": train, "ddp": ddp, "quality": quality,
    "confidence": confidence, "drift": drift, "tokenizer": tokenizer,
}  # fmt: skip

"""What a completion costs, from measured throughput and a table of prices.

    python -m deploy.cost                                                      # the rates in tests/benchmarks/results
    python -m deploy.cost --machines 3 --hourly 1.00 --requests-per-second 10 --tokens-per-request 100
    python -m deploy.cost --tokens-per-second 1170 --machine cpu-2 --spot --developers 100

All rates are of what the machines can do together; `--busy` is the share of that which is really used.
"""

from __future__ import annotations

import argparse
import json
import math
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PRICES = Path(__file__).with_name("prices.toml")
RESULTS = Path(__file__).parents[1] / "tests" / "benchmarks" / "results"
HOURS_A_MONTH = 730
BYTES_A_WEIGHT = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5}
_NOTE = """\
Measured: one stream, at ${:.2f} an hour. int4 is served as int8, so it costs the same; of fp16 there are bounds only.
A GPU that is not named above has not been measured: below is only what its memory's bandwidth allows at most."""


@dataclass(frozen=True)
class Machine:
    """Dollars an hour; `bandwidth_gb_s` is 0 where the table has none."""

    name: str
    on_demand: float
    spot: float
    bandwidth_gb_s: float = 0.0


@dataclass(frozen=True)
class Service:
    """`machines` at `hourly` dollars each; together they make `requests_per_s` answers of `tokens` generated tokens."""

    hourly: float
    machines: int
    requests_per_s: float
    tokens: float
    busy: float = 1.0

    @property
    def per_request(self) -> float:
        return self.hourly * self.machines / (3600 * self.requests_per_s * self.busy)

    @property
    def per_1k_tokens(self) -> float:
        return self.per_request / self.tokens * 1000


@dataclass(frozen=True)
class Team:
    """Who asks: `requests_per_hour` of one developer at work; `peak` is the busiest moment over the average hour."""

    developers: int
    requests_per_hour: float = 200
    hours_per_day: float = 8
    days_per_month: float = 21
    peak: float = 3

    def machines(self, service: Service, peak: float) -> int:
        """How many are needed at `peak` times the average, one of them too many: machines fail."""
        wanted = self.developers * self.requests_per_hour * peak / 3600
        one = service.requests_per_s * service.busy / service.machines
        return math.ceil(wanted / one) + 1

    def developer_month(self, service: Service, *, autoscaled: bool) -> float:
        """Dollars; autoscaled, the machines of the peak run in working hours only, and two at all others."""
        most = self.machines(service, self.peak)
        at_work = self.hours_per_day * self.days_per_month
        least = min(2, most) if autoscaled else most
        hours = most * at_work + least * (HOURS_A_MONTH - at_work)
        return hours * service.hourly / self.developers


def machines(path: Path = PRICES) -> dict[str, Machine]:
    """By name. Raises ValueError that names what is missing."""
    found = {}
    for name, row in tomllib.loads(path.read_text(encoding="utf-8")).get("machines", {}).items():
        try:
            numbers = (float(row["on_demand"]), float(row["spot"]), float(row.get("bandwidth_gb_s", 0)))
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: machines.{name} needs on_demand and spot, in dollars an hour: {error}") from None
        found[name] = Machine(name, *numbers)
    return found


def measured(folder: Path = RESULTS) -> Iterator[tuple[str, str, float]]:
    """Machine, what decoded, and tokens a second of one stream, of every record of `bench_engine.py`."""
    for path in sorted(folder.glob("*.json")):
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if record["benchmark"] != "engine":
            continue
        machine = record["machine"]
        where = machine["gpu"] or f"{machine['cores']} x {machine['processor']}"
        for key, what in (("engine", "int8"), ("one_slot", "fp32, plain engine")):
            yield f"{where}, {record['date']}", what, float(record["figures"][key]["decode_tokens_per_s"])


def tell(arguments: Sequence[str] | None = None) -> str:
    """What the command prints: Markdown."""
    options = _parser().parse_args(arguments)
    table = machines(options.prices)
    if options.machine not in table:
        raise SystemExit(f"cost: no machine {options.machine!r} in {options.prices}; there are {', '.join(table)}")
    machine = table[options.machine]
    hourly = options.hourly if options.hourly is not None else machine.spot if options.spot else machine.on_demand
    rate = options.requests_per_second
    if rate is None and options.tokens_per_second is not None:
        rate = options.tokens_per_second / options.tokens_per_request
    team = Team(options.developers, options.requests_per_hour)
    head = [
        "| what | tokens/s | $ per 1k tokens | $ per request | $ per developer and month | autoscaled |",
        "|---|---|---|---|---|---|",
    ]
    if rate is not None:
        service = Service(hourly, options.machines, rate, options.tokens_per_request, options.busy)
        return "\n".join([*head, _row("given", service, team)])
    rows = []
    for where, what, tokens_per_s in measured():
        per_s = tokens_per_s / options.tokens_per_request
        rows.append(
            _row(f"{what} on {where}", Service(hourly, 1, per_s, options.tokens_per_request, options.busy), team)
        )
    bounds = _bounds(table, options.weights_millions, spot=options.spot)
    return "\n".join([*head, *rows, "", _NOTE.format(hourly), "", *bounds])


def _row(what: str, service: Service, team: Team) -> str:
    always = team.developer_month(service, autoscaled=False)
    scaled = team.developer_month(service, autoscaled=True)
    cells = (
        f"{service.requests_per_s * service.tokens:,.0f}",
        f"{service.per_1k_tokens:.6f}",
        f"{service.per_request:.8f}",
        f"{always:.2f}",
        f"{scaled:.2f}",
    )
    return f"| {what} | {' | '.join(cells)} |"


def _bounds(table: dict[str, Machine], weights_millions: float, *, spot: bool) -> Iterator[str]:
    yield f"| at most, {weights_millions:g} million weights | {' | '.join(BYTES_A_WEIGHT)} |"
    yield "|---|" + "---|" * len(BYTES_A_WEIGHT)
    for machine in table.values():
        if machine.bandwidth_gb_s:
            hourly = machine.spot if spot else machine.on_demand
            cells = []
            for size in BYTES_A_WEIGHT.values():
                tokens_per_s = machine.bandwidth_gb_s * 1e9 / (weights_millions * 1e6 * size)
                cells.append(f"{tokens_per_s:,.0f} tokens/s, ${hourly / 3600 / tokens_per_s * 1000:.6f} per 1k")
            yield f"| {machine.name}, ${hourly:.2f} an hour | {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    print(tell(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What a completion costs.")
    parser.add_argument("--prices", type=Path, default=PRICES, metavar="FILE", help="TOML like deploy/prices.toml")
    parser.add_argument("--machine", default="cpu-2", metavar="NAME", help="of that file; default: %(default)s")
    parser.add_argument("--spot", action="store_true", help="its spot price")
    parser.add_argument("--hourly", type=_positive, metavar="DOLLARS", help="price of one machine in place of that")
    parser.add_argument("--machines", type=int, default=1, metavar="N", help="that serve together")
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument("--requests-per-second", type=_positive, metavar="RATE", help="of all machines together")
    rate.add_argument("--tokens-per-second", type=_positive, metavar="RATE", help="generated, of all together")
    parser.add_argument("--tokens-per-request", type=_positive, default=16, metavar="N", help="default: %(default)s")
    parser.add_argument("--busy", type=_share, default=1.0, help="share of the rate that is used; default: %(default)s")
    parser.add_argument("--developers", type=int, default=100, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--requests-per-hour", type=_positive, default=200, metavar="N", help="of one; default: %(default)s"
    )
    parser.add_argument("--weights-millions", type=_positive, default=124, metavar="N", help="for the bounds of GPUs")
    return parser


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return number


def _share(text: str) -> float:
    number = _positive(text)
    if number > 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {text}")
    return number


if __name__ == "__main__":
    main()

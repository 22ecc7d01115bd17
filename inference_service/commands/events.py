"""`midfill-serve events report`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from inference_service.commands.arguments import add_database, opened, parser, positive
from inference_service.events.report import as_table, report


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The exit code. Raises SettingsError, CommandError."""
    made = parser("events", "What became of completions in the editors.")
    actions = made.add_subparsers(required=True, metavar="report")
    reporting = actions.add_parser("report", help="acceptance by language and model version")
    reporting.add_argument("--days", type=positive, default=7, metavar="N", help="of the last N days; %(default)s")
    add_database(reporting)
    options = made.parse_args(arguments)
    with opened(options, environ) as database:
        rows = report(database, time.time() - options.days * 86400)
    print(as_table(rows) if rows else f"no events in the last {options.days} days")
    return 0

"""`midfill-serve database upgrade`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inference_service.commands.arguments import add_database, opened, parser


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The exit code. Raises SettingsError, CommandError."""
    made = parser("database", "The tables of keys and events. SQLite is upgraded by each service that starts.")
    actions = made.add_subparsers(required=True, metavar="upgrade")
    add_database(actions.add_parser("upgrade", help="bring the tables to this release; safe to repeat"))
    with opened(made.parse_args(arguments), environ) as database:
        database.upgrade()
    print("midfill-serve: the database has the tables of this release")
    return 0

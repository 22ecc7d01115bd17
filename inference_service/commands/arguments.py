"""What the commands have in common: their parser, the database, and spans of time."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import NoReturn

from inference_service import settings as settings_module
from inference_service.commands import CommandError
from inference_service.guard.principal import GuardError
from inference_service.settings import SettingsError
from inference_service.storage import location
from inference_service.storage.database import Database, DatabaseFault

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Parser(argparse.ArgumentParser):
    """Tells what is wrong in one sentence, as SettingsError."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see --help")


def parser(command: str, description: str) -> Parser:
    """Of one command."""
    return Parser(prog=f"midfill-serve {command}", description=description, allow_abbrev=False)


def add_database(made: argparse.ArgumentParser) -> None:
    """`--database` and `--config`."""
    made.add_argument("--database", metavar="URL", help="sqlite:///PATH or postgresql://… (also MIDFILL_DATABASE)")
    made.add_argument("--config", metavar="FILE", help="TOML file with settings, of which database is used")


def database_setting(options: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """What flags, environment and file say. Raises SettingsError."""
    flags = [
        text for name in ("config", "database") if (value := getattr(options, name)) for text in (f"--{name}", value)
    ]
    # The address matters to a service only.
    return settings_module.load([*flags, "--host", "127.0.0.1"], environ).database


@contextlib.contextmanager
def opened(options: argparse.Namespace, environ: Mapping[str, str]) -> Iterator[Database]:
    """The database; the user's own file when nothing is said. What goes wrong with it leaves as CommandError.

    Raises SettingsError.
    """
    setting = database_setting(options, environ)
    if setting == location.NONE:
        raise SettingsError("this command needs a database: set --database or MIDFILL_DATABASE")
    try:
        database = Database(location.checked(setting) if setting else location.default_url())
        try:
            yield database
        finally:
            database.close()
    except (DatabaseFault, GuardError) as error:
        raise CommandError(str(error)) from None


def seconds(text: str) -> float:
    """Of a span such as 90d, 24h, 30m, 10s. Raises argparse.ArgumentTypeError."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if not match:
        raise argparse.ArgumentTypeError("must be a number and a unit, such as 90d, 24h, 30m or 10s")
    return float(int(match[1]) * _UNITS[match[2]])


def positive(text: str) -> int:
    """An integer from 1 on. Raises argparse.ArgumentTypeError."""
    if not re.fullmatch(r"[1-9]\d{0,9}", text) or int(text) >= 1 << 31:
        raise argparse.ArgumentTypeError("must be an integer from 1 to 2147483647")
    return int(text)

"""`midfill-serve keys | database | events | evaluate-live`: what an operator does beside serving."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Protocol, cast

from inference_service.settings import SettingsError

COMMANDS = {
    "keys": "inference_service.commands.keys",
    "database": "inference_service.commands.database",
    "events": "inference_service.commands.events",
    "evaluate-live": "inference_service.commands.evaluate_live",
}


class CommandError(Exception):
    """The command cannot do it; the message is one sentence."""


class _Module(Protocol):
    main: Callable[[Sequence[str], Mapping[str, str]], int]


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Exit code of the command that `arguments[0]` names: 0 done, 1 it could not be done, 2 it was asked wrongly."""
    # Late: most of them bring the database libraries, which the service itself may not need.
    module = cast(_Module, import_module(COMMANDS[arguments[0]]))
    try:
        return module.main(arguments[1:], environ)
    except (SettingsError, CommandError) as error:
        print(f"midfill-serve: {error}", file=sys.stderr, flush=True)
        return 2 if isinstance(error, SettingsError) else 1

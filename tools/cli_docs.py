"""Writes docs/cli.md from what the commands answer to `--help`, and docs/service-settings.md from the settings of the
service. Run it after a change in either; tests/docs/test_generated.py notices when it was forgotten.

    python -m tools.cli_docs
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from inference_service.__main__ import main as serve
from inference_service.settings import Settings
from lsp_server.__main__ import main as lsp
from training.__main__ import main as train

PROGRAMS: dict[str, Callable[[], object]] = {"midfill-lsp": lsp, "midfill-serve": serve, "midfill-train": train}
# of the service, whose help names only their first words; the help of the others lists them all
_SERVE_COMMANDS = (
    "keys create",
    "keys list",
    "keys rotate",
    "keys revoke",
    "database upgrade",
    "events report",
    "evaluate-live",
)
_LISTED = re.compile(r"^ {4}(\w+)", re.MULTILINE)
DOCS = Path(__file__).parent.parent / "docs"
CLI, SETTINGS = DOCS / "cli.md", DOCS / "service-settings.md"

_CLI_INTRO = """# Commands

Written by `tools/cli_docs.py` from `--help`. Each command is also a module: `midfill-lsp` is `python -m lsp_server`,
`midfill-serve` is `python -m inference_service`, `midfill-train` is `python -m training` (which `torchrun` wants).
All of them exit with 0 when it is done, 1 when it could not be done, and 2 when they were called wrongly. Settings of
the service are flags of `midfill-serve` too.
"""
_SETTINGS_INTRO = """# Settings of the service

Written by `tools/cli_docs.py` from `inference_service/settings.py`. Each is a flag, a variable of the environment and a
key of the TOML file that `--config FILE` (or `MIDFILL_CONFIG`) names; a flag wins over the environment, which wins over
the file. A value out of range or an unknown key ends the start with one sentence; a `MIDFILL_…` that nobody reads is
named at the start, with the nearest known one. `/info` shows what is in effect, without secrets.

| flag | environment | default | must be | what it does |
|---|---|---|---|---|
"""


def help_of(main: Callable[[], object], program: str, *words: str) -> str:
    """What `PROGRAM WORDS --help` prints, 100 columns wide."""
    out = io.StringIO()
    argv = [program, *words, "--help"]
    with (
        mock.patch.object(sys, "argv", argv),
        mock.patch.dict(os.environ, {"COLUMNS": "100", "NO_COLOR": "1"}),
        contextlib.redirect_stdout(out),
        contextlib.suppress(SystemExit),
    ):
        main()
    return out.getvalue().strip()


def cli_page() -> str:
    text = _CLI_INTRO
    for program, main in PROGRAMS.items():
        told = help_of(main, program)
        text += f"\n## {program}\n\n```text\n{told}\n```\n"
        for word in _SERVE_COMMANDS if program == "midfill-serve" else _LISTED.findall(told):
            text += f"\n### {program} {word}\n\n```text\n{help_of(main, program, *word.split())}\n```\n"
    return text


def settings_page() -> str:
    text = _SETTINGS_INTRO
    for item in dataclasses.fields(Settings):
        low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
        kind = type(item.default)
        must = ", ".join(choices) or (f"{low} to {high}" if low is not None else "a switch" if kind is bool else "text")
        default = f"`{item.default}`" if item.default != "" else "none"
        flag, variable = f"--{item.name.replace('_', '-')}", f"MIDFILL_{item.name.upper()}"
        text += (
            f"| `{flag}` | `{variable}` | {default} | {must} | {item.metadata['help'].replace('|', chr(92) + '|')} |\n"
        )
    return text


if __name__ == "__main__":
    CLI.write_text(cli_page(), encoding="utf-8")
    SETTINGS.write_text(settings_page(), encoding="utf-8")

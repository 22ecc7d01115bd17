"""`midfill-lsp`: the language server on stdio, and its commands for the terminal."""

from __future__ import annotations

import argparse
import gc
import logging
import sys

from lsp_server import __version__


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 well, 1 not, 2 used wrongly."""
    parser = argparse.ArgumentParser(
        prog="midfill-lsp",
        description="Inline code completion. Without a command: a language server on stdin and stdout.",
        epilog="The API key is taken from the environment variable MIDFILL_TOKEN.",
    )
    parser.add_argument("--version", action="version", version=f"midfill {__version__}")
    # Editors commonly add it; stdio is the only transport.
    parser.add_argument("--stdio", action="store_true", help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command")
    for name, text in (
        ("doctor", "say what works and what does not"),
        ("complete", "print one completion for FILE:LINE:COL"),
        ("replay", "take parts of lines out of files, and count what would be shown there and how much of it is right"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--endpoint", metavar="URL", help='the service, or "local" (the default)')
        command.add_argument(
            "--set",
            metavar="KEY=VALUE",
            action="append",
            default=[],
            help="another setting, as `midfill-lsp settings` lists them, for example tls.caBundle=company.pem",
        )
        if name == "complete":
            command.add_argument("place", metavar="FILE:LINE:COL", help="line and column count from 1")
        if name == "replay":
            command.add_argument("files", metavar="FILE", nargs="+")
            command.add_argument("--holes", type=_count, default=20, metavar="N", help="in each file (default 20)")
    commands.add_parser("settings", help="print all settings as JSON")
    options = parser.parse_args(arguments)
    if options.command is None:
        return _serve()

    from lsp_server import terminal

    logging.getLogger().addHandler(logging.NullHandler())  # what matters is printed
    if options.command == "settings":
        return terminal.print_settings()
    if options.command == "doctor":
        return terminal.doctor(options.endpoint, options.set)
    if options.command == "replay":
        return terminal.replay(options.files, options.holes, options.endpoint, options.set)
    return terminal.complete(options.place, options.endpoint, options.set)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


def _serve() -> int:
    # Importing the LSP types makes some 100 000 objects, nearly all of which stay: looking through them again
    # and again would be a quarter of the time to `initialize`. server.py collects once, after it.
    gc.disable()
    from lsp_server import memory

    memory.give_back_large_blocks()
    from lsp_server import logs
    from lsp_server.server import build

    logs.set_up()
    build(__version__).start_io()
    return 0


if __name__ == "__main__":
    sys.exit(main())

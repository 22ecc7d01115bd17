"""The API key: from the settings or the environment, from a private file, or from a program that prints it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
from pathlib import Path

from lsp_server.settings import Settings

_COMMAND_S = 20.0
_PRINTABLE = re.compile(r"[!-~]+")


class TokenError(Exception):
    """There should be a key, but it cannot be had; the message is a sentence for the user, without the key."""


class Tokens:
    """Hands out the key. What a program printed is kept until the service refuses it."""

    def __init__(self, settings: Settings) -> None:
        self._fixed = settings.token
        self._file = settings.token_file
        self._command = settings.token_command
        self._printed: str | None = None
        self._running = asyncio.Lock()

    @classmethod
    def fixed(cls, token: str) -> Tokens:
        """Always this key."""
        return cls(Settings(token=token))

    @property
    def source(self) -> str:
        """Where the key comes from, for people; empty if there is none."""
        if self._fixed:
            return "the settings"
        if self._file:
            return f"the file {self._file}"
        return f"the command {self._command[0]}" if self._command else ""

    async def get(self) -> str:
        """The key, or "" if none is wanted. Raises TokenError."""
        if self._fixed:
            return self._fixed
        if self._file:
            return _private_text(self._file)
        if not self._command:
            return ""
        async with self._running:
            if self._printed is None:
                self._printed = await self._run()
            return self._printed

    def refused(self, token: str) -> bool:
        """The service does not know `token`; whether asking again may give another one."""
        if self._fixed or not (self._file or self._command):
            return False
        if self._printed == token:
            self._printed = None
        return True

    async def _run(self) -> str:
        name = self._command[0]
        try:
            child = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except (OSError, ValueError) as error:
            raise TokenError(f"midfill.tokenCommand: {name} cannot be run ({type(error).__name__})") from error
        try:
            async with asyncio.timeout(_COMMAND_S):
                printed, _ = await child.communicate()
        except TimeoutError:
            raise TokenError(f"midfill.tokenCommand: {name} printed nothing within {_COMMAND_S:g} s") from None
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
        if child.returncode:
            raise TokenError(f"midfill.tokenCommand: {name} ended with exit status {child.returncode}")
        return _checked(printed.decode(errors="replace"), f"midfill.tokenCommand: {name} printed")


def _private_text(name: str) -> str:
    path = Path(name).expanduser()
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if os.name == "posix" and mode & 0o077:
                raise TokenError(
                    f"midfill.tokenFile: others may read {name} (mode {mode:04o}): run chmod 600 on it; it is not used"
                )
            text = file.read(10_000)
    except OSError as error:
        raise TokenError(f"midfill.tokenFile: cannot read {name}: {error.strerror}") from error
    return _checked(text, f"midfill.tokenFile: {name} holds")


def _checked(text: str, says: str) -> str:
    token = text.strip().partition("\n")[0].strip()
    if not _PRINTABLE.fullmatch(token):
        raise TokenError(f"{says} no API key (printable ASCII without spaces)")
    return token

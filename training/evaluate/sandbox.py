"""Running programs that nobody has read: a model's, with their tests.

Each gets a process of its own: Python in isolated mode, an empty folder, no environment, limits on processor time,
memory, file sizes and processes (`sandboxed.py`). Where the system lets us, it has no network and no other processes
in sight (`unshare`), is another user (when we are root) and can change no file elsewhere (Landlock). It can *read*
what the user can read. A program that sets out to fool its own tests can do so, for both run in one process; use a
virtual machine for code of somebody who means harm.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MEMORY = 1 << 30  # bytes of address space
_WALL = 3  # times the processor time: the machine may be busy, and a program may sleep
_NOBODY = 65534
_LAUNCHER = Path(__file__).with_name("sandboxed.py")
_NAMESPACES = ("unshare", "--net", "--pid", "--fork", "--kill-child")
# dac_read_search: the interpreter may be below a folder that only root can enter
_AS_NOBODY = tuple(
    (
        *("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"),
        *(f"--{which}=-all{kept}" for which in ("inh-caps", "ambient-caps", "bounding-set")),
    )
    for kept in (",+dac_read_search", "")
)
_PROBE = "import os\ntry:\n    os.fork()\nexcept OSError:\n    pass\nelse:\n    os._exit(1)\n"


class NoSandbox(ValueError):
    """This system cannot hold programs; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`command` stands before the interpreter's. `no_network`, `fenced`: what could be had here."""

    command: tuple[str, ...]
    no_network: bool = False
    fenced: bool = False

    def describe(self) -> str:
        network = "no network" if self.no_network else "the network within reach (`unshare` does not work here)"
        files = "own folder" if self.fenced else "all files of its user (this kernel has no Landlock)"
        return f"sandbox: {network}; can change: {files}"

    def passes(self, program: str, cpu_seconds: int) -> bool:
        """Whether a Python program gets to its end, without an exception and in time.

        The process and its children are gone afterwards.
        """
        secret = secrets.token_hex(16).encode()
        return self._answer(program, secret, cpu_seconds).startswith(secret)

    def _answer(self, program: str, secret: bytes, cpu_seconds: int) -> bytes:
        with (
            tempfile.TemporaryDirectory(prefix="midfill-sandbox-", ignore_cleanup_errors=True) as folder,
            tempfile.TemporaryFile() as given,
        ):
            if os.geteuid() == 0:
                os.chown(folder, _NOBODY, _NOBODY)
            given.write(secret + b"\n" + program.encode("utf-8", "surrogatepass"))
            given.seek(0)
            process = subprocess.Popen(
                [*self.command, sys.executable, "-I", "-S", "-B", _LAUNCHER, str(cpu_seconds), str(_MEMORY)],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env={"HOME": folder, "TMPDIR": folder, "PATH": os.defpath, "LANG": "C.UTF-8"},
                start_new_session=True,
            )
            assert process.stdout is not None
            clock = threading.Timer(_WALL * cpu_seconds, _kill, (process,))
            clock.start()
            try:
                with process.stdout:
                    return process.stdout.read(len(secret) + 16)
            finally:
                clock.cancel()
                _kill(process)
                process.wait()


def open_sandbox() -> Sandbox:
    """The tightest one that works here. Raises NoSandbox when even child processes cannot be forbidden."""
    for command in _candidates():
        if shutil.which(command[0]) if command else True:
            sandbox = Sandbox(command)
            secret = secrets.token_hex(16).encode()
            answer = sandbox._answer(_PROBE, secret, cpu_seconds=5)
            if answer.startswith(secret):
                return Sandbox(command, no_network="--net" in command, fenced=answer != secret)
    raise NoSandbox(
        "programs cannot be confined here: take a Linux machine, and either another user than root or the programs "
        "setpriv and unshare of util-linux"
    )


def _candidates() -> list[tuple[str, ...]]:
    if os.geteuid() == 0:  # root's processes are not limited in number
        return [(*namespaces, *user) for namespaces in (_NAMESPACES, ()) for user in _AS_NOBODY]
    return [("unshare", "--map-root-user", *_NAMESPACES[1:]), ()]


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With everything in its session; in a process namespace the first process takes all others along."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)

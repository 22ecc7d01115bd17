"""The inside of the sandbox: takes its own rights away, runs one program, and answers only if that came to its end.

Run as a script with `python -I -S`, so it imports nothing but the standard library. Standard input holds one line
with a secret and then the program; after the program the secret is written to standard output. A program that
leaves early, by any way, does not get there.
"""

import ctypes
import os
import resource
import struct
import sys

_LARGEST_FILE = 1 << 20  # bytes
# numbers that x86-64 and arm64 share; see landlock(7)
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH, _NO_NEW_PRIVS = 1, 1, 38
_WRITING = 0x1FF2  # write and make files, remove and make directories, and what else changes a file tree
_WRITING_A_FILE = 1 << 1 | 1 << 14
_TRUNCATE, _TCP, _ABSTRACT_SOCKETS_AND_SIGNALS = 1 << 14, 3, 3


def limit(cpu_seconds: int, memory: int) -> None:
    """No child processes or threads, and a bound on time, memory (bytes of address space) and file size."""
    for what, most in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, _LARGEST_FILE),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 1),
    ):
        resource.setrlimit(what, (most, most))


def fence(folder: str) -> bool:
    """Allow changes to files below `folder` only, and neither TCP nor signals to others (Landlock, Linux 5.13).

    False where the kernel has no Landlock.
    """
    if sys.platform != "linux":
        return False
    call = ctypes.CDLL(None, use_errno=True).syscall
    version = call(_CREATE_RULESET, None, 0, _VERSION)
    if version < 1:
        return False
    writing = _WRITING | (_TRUNCATE if version >= 3 else 0)
    rules = struct.pack("=Q", writing)
    rules += struct.pack("=Q", _TCP) if version >= 4 else b""
    rules += struct.pack("=Q", _ABSTRACT_SOCKETS_AND_SIGNALS) if version >= 6 else b""
    ruleset = call(_CREATE_RULESET, rules, len(rules), 0)
    for path, rights in ((folder, writing), (os.devnull, writing & _WRITING_A_FILE)):
        descriptor = os.open(path, os.O_PATH)
        call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
        os.close(descriptor)
    ctypes.CDLL(None).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    fenced = call(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return bool(fenced)


def main() -> None:
    cpu_seconds, memory = map(int, sys.argv[1:])
    secret, program = sys.stdin.buffer.read().split(b"\n", 1)
    answer = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    fenced = fence(".")
    limit(cpu_seconds, memory)
    exec(compile(program, "program.py", "exec"), {"__name__": "__main__"})  # noqa: S102 - what it is for
    os.write(answer, secret + (b" fenced" if fenced else b""))
    os._exit(0)  # without the program's exit handlers


if __name__ == "__main__":
    main()

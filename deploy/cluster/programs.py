"""Programs of the system: on PATH, or from Debian packages that are unpacked without root.

    python -m deploy.cluster.programs nginx redis-server postgresql

unpacks what is missing, with what it needs, under .tools/debian. apt only downloads, into a private state; nothing
outside that folder is written.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

UNPACKED = Path(__file__).resolve().parents[2] / ".tools" / "debian"
_ROOT = UNPACKED / "root"
# A program of each package, to tell whether it is here.
_SHOWS = {"nginx": "nginx", "redis-server": "redis-server", "postgresql": "postgres"}


class Missing(Exception):
    """A program is not here; the message says how to get it."""


def find(name: str, package: str) -> str:
    """The path of a program. `package` is Debian's name, for the message. Raises Missing."""
    elsewhere = [*_folders(Path("/")), "/usr/local/sbin", str(UNPACKED / "bin")]  # sbin is not on everybody's PATH
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(elsewhere))
    if found is None:
        raise Missing(
            f"{name} is not installed (Debian package {package}): install it, or unpack it here with "
            f"python -m deploy.cluster.programs {package}"
        )
    return found


def unpack(packages: list[str]) -> None:
    """Unpack the packages of which no program is here. Raises Missing where this system cannot."""
    missing = [package for package in packages if not _here(package)]
    if not missing:
        return
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Missing(f"{', '.join(missing)} cannot be unpacked: there is no {tool}. Install them yourself")
    shutil.rmtree(UNPACKED / "apt", ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial"):
        (UNPACKED / "apt" / folder).mkdir(parents=True)
    try:
        _apt("update")
        _apt("install", "-y", "--no-install-recommends", "--download-only", *missing)
        for package in sorted((UNPACKED / "apt" / "cache" / "archives").glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, _ROOT], check=True)
    except subprocess.CalledProcessError as error:
        raise Missing(f"{', '.join(missing)} could not be unpacked: {error}") from None
    shutil.rmtree(UNPACKED / "apt")
    _write_wrappers()


def _apt(*arguments: str) -> None:
    options = {
        "Dir::State::Lists": UNPACKED / "apt" / "lists",
        "Dir::Cache": UNPACKED / "apt" / "cache",
        "APT::Sandbox::User": os.environ.get("USER", "root"),
        "Debug::NoLocking": "1",
    }
    settings = [f"-o{name}={value}" for name, value in options.items()]
    subprocess.run(["apt-get", "-qq", *settings, *arguments], check=True, stdout=subprocess.DEVNULL)


def _write_wrappers() -> None:
    """In `bin`, each program by its name, with the libraries that were unpacked with it."""
    (UNPACKED / "bin").mkdir(exist_ok=True)
    libraries = os.pathsep.join(map(str, (*_ROOT.glob("usr/lib/*-linux-gnu"), *_ROOT.glob("lib/*-linux-gnu"))))
    for folder in reversed(_folders(_ROOT)):
        for program in Path(folder).glob("*"):
            wrapper = UNPACKED / "bin" / program.name
            wrapper.write_text(f"#!/bin/sh\nLD_LIBRARY_PATH='{libraries}' exec '{program}' \"$@\"\n")
            wrapper.chmod(0o755)


def _folders(root: Path) -> list[str]:
    """Where Debian keeps programs below `root`, the newest PostgreSQL's before the wrappers in usr/bin."""
    servers = sorted(root.glob("usr/lib/postgresql/*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return [*map(str, servers), *(str(root / folder) for folder in ("usr/bin", "usr/sbin", "bin", "sbin"))]


def _here(package: str) -> bool:
    try:
        find(_SHOWS[package], package)
    except Missing:
        return False
    return True


if __name__ == "__main__":
    wanted = sys.argv[1:] or list(_SHOWS)
    if not _SHOWS.keys() >= set(wanted):
        sys.exit(f"give some of {', '.join(_SHOWS)}, not {' '.join(wanted)}")
    try:
        unpack(wanted)
    except Missing as problem:
        sys.exit(str(problem))

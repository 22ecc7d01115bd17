"""Git checkouts as sources: the files that git tracks, at a commit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from training.corpus.folders import FolderSource, folder_source
from training.corpus.project_licence import project_licence
from training.corpus.sources import NoLicence, NotUsable

OWNED = "proprietary, used by its owner"
_UNTRUSTED = ("-c", "core.fsmonitor=false", "--no-optional-locks")  # a checkout's settings run nothing, write nothing


def is_checkout(folder: Path) -> bool:
    return (folder / ".git").exists()  # a file in worktrees and submodules


def own_source(folder: Path, licence: str | None) -> FolderSource:
    """A folder of the user's own code; of a git checkout only what git tracks. Raises NotUsable.

    The licence is the one that is given, else a permissive one that the checkout names, else that of an owner.
    """
    name = folder.resolve().name
    if is_checkout(folder):
        return _tracked(folder, name, licence or project_licence(folder) or OWNED)
    return folder_source(folder, name, "0", licence or OWNED)


def checkout_source(folder: Path, licence: str | None) -> FolderSource:
    """A git checkout of other people's code, whose licence has to be permissive or given. Raises NotUsable."""
    if not is_checkout(folder):
        raise NotUsable(f"{folder} is not a git checkout: clone it, or give a folder of your own with --folder")
    licence = licence or project_licence(folder)
    if licence is None:
        raise NoLicence(
            f"{folder}: no permissive licence in pyproject.toml, setup.cfg or a LICENSE file: "
            "leave it out, or state the licence with --licence when you know it"
        )
    return _tracked(folder, folder.resolve().name, licence)


def _tracked(folder: Path, name: str, licence: str) -> FolderSource:
    # a commit's hash, with "-dirty" when tracked files differ from it
    version = _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*").strip()
    paths = [path for path in _git(folder, "ls-files", "-z", "--", "*.py").split("\0") if path]
    return folder_source(folder, name, version, licence, tracked=paths)


def _git(folder: Path, *command: str) -> str:
    try:
        done = subprocess.run(["git", *_UNTRUSTED, "-C", folder, *command], capture_output=True, check=True)
    except FileNotFoundError as error:
        raise NotUsable(f"{folder} is a git checkout, and there is no git here: install git") from error
    except subprocess.CalledProcessError as error:
        said = os.fsdecode(error.stderr).strip().splitlines()
        raise NotUsable(f"{folder}: git cannot read this checkout ({said[0] if said else error}): mend it") from error
    return os.fsdecode(done.stdout)

"""Model versions as they are stored: one directory each, in a folder or in object storage, through fsspec.

A version is named by its content: the first 12 hex digits of the SHA-256 of its manifest.json, which holds the SHA-256
of every other file. What the directory is called does not matter.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from inference_service.registry.errors import ModelRefused, RolloutFault, UnknownVersion
from inference_service.settings import SettingsError

MANIFEST = "manifest.json"
STATE = "rollout.json"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A directory of the store. `problem` says why it cannot be activated, None when nothing is known against it."""

    folder: str
    version: str
    files: Mapping[str, str]  # name → SHA-256
    problem: str | None = None


class ModelStore:
    """Blocking: call it from a thread. Every method raises RolloutFault when the storage does not answer.

    Raises SettingsError for a URL that cannot be opened, for one because its fsspec package is not installed.
    """

    def __init__(self, url: str, cache: Path) -> None:
        try:
            self._fs, self._root = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise SettingsError(f"cannot open the model store {url}: {error}") from None
        self._cache = cache
        self._local = isinstance(self._fs, LocalFileSystem)

    def list(self) -> list[StoredModel]:
        """Every directory of the store, sorted by name."""
        with _storage("list the model store"):
            entries = self._fs.ls(self._root, detail=True) if self._fs.isdir(self._root) else []
        folders = sorted(str(entry["name"]).rstrip("/") for entry in entries if entry["type"] == "directory")
        return [self._describe(folder) for folder in folders if not PurePosixPath(folder).name.startswith(".")]

    def fetch(self, version: str) -> Path:
        """A local directory of that version, every file checked against the manifest.

        A folder's directory is used where it lies; from anywhere else it is copied into the cache first. Raises
        UnknownVersion, ModelRefused, RolloutFault.
        """
        found = [model for model in self.list() if model.version == version]
        if not found:
            raise UnknownVersion(f"the model store has no version {version!r}; GET /admin/models lists what it has")
        model = found[0]
        if model.problem:
            raise ModelRefused(model.problem)
        if self._local:
            path = Path(model.folder)
            _verify(path, model.files)
            return path
        path = self._cache / version
        if path.is_dir():
            with contextlib.suppress(ModelRefused):
                _verify(path, model.files)
                return path
            shutil.rmtree(path)
        return self._download(model, path)

    def read_state(self) -> dict[str, Any]:
        """What `write_state` wrote last; empty before that. Raises RolloutFault also when it is not readable JSON."""
        try:
            with _storage("read the roll-out's state"):
                state = json.loads(self._fs.cat_file(self._path(STATE)))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise RolloutFault(f"{self._path(STATE)} is not readable ({error}): correct or remove it") from None
        return state if isinstance(state, dict) else {}

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Replace the state as a whole: a reader sees the old or the new one."""
        data = (json.dumps(state, indent=1) + "\n").encode()
        with _storage("keep the roll-out's state"):
            if not self._local:
                self._fs.pipe_file(self._path(STATE), data)  # object stores show an object only when it is complete
                return
            Path(self._root).mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=f".{STATE}.", dir=self._root)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(self._path(STATE))
            except OSError:
                Path(temporary).unlink(missing_ok=True)
                raise

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _describe(self, folder: str) -> StoredModel:
        name = PurePosixPath(folder).name
        try:
            with _storage(f"read {MANIFEST} of {name}"):
                manifest = json.loads(self._fs.cat_file(f"{folder}/{MANIFEST}"))
        except FileNotFoundError:
            return StoredModel(folder, "", {}, f"{name} has no {MANIFEST}: it is half copied, or no model directory")
        except ValueError:
            return StoredModel(folder, "", {}, f"{MANIFEST} of {name} is not JSON: copy the directory again")
        if not isinstance(manifest, dict) or not all(map(_is_plain, manifest.items())):
            return StoredModel(folder, "", {}, f"{MANIFEST} of {name} must map file names to their SHA-256")
        version = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:12]
        return StoredModel(folder, version, manifest)

    def _download(self, model: StoredModel, target: Path) -> Path:
        with _storage(f"copy version {model.version} to {self._cache}"):
            self._cache.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{model.version}-", dir=self._cache))
        try:
            with _storage(f"copy version {model.version} to {self._cache}"):
                for name in [*model.files, MANIFEST]:
                    self._fs.get_file(f"{model.folder}/{name}", str(partial / name))
            _verify(partial, model.files)
            try:
                partial.replace(target)
            except OSError:  # another process on this machine was faster
                _verify(target, model.files)
        except FileNotFoundError as error:
            raise ModelRefused(f"version {model.version} is incomplete, {error} is missing: copy it again") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return target


def _is_plain(item: tuple[Any, Any]) -> bool:
    """A name that stays in its directory, with a digest."""
    name, digest = item
    return PurePosixPath(name).name == name and name not in (".", "..") and "\\" not in name and isinstance(digest, str)


def _verify(path: Path, files: Mapping[str, str]) -> None:
    for name, expected in files.items():
        try:
            with (path / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelRefused(f"{path / name} cannot be read ({error.strerror}): copy the version again") from None
        if digest != expected:
            raise ModelRefused(
                f"{path / name} is damaged or half copied (its SHA-256 is not the manifest's): copy it again"
            )


@contextlib.contextmanager
def _storage(doing: str) -> Iterator[None]:
    """Storage libraries raise whatever they like; only a missing file is told apart."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise RolloutFault(f"cannot {doing}: the disk is full") from error
        raise RolloutFault(f"cannot {doing}: {error.strerror or type(error).__name__}") from error
    except ValueError:
        raise
    except Exception as error:
        raise RolloutFault(f"cannot {doing}: {type(error).__name__}") from error

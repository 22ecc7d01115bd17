"""Which files a file imports names from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

_MOST = 12
_PYTHON = re.compile(r"^from[ \t]+([.\w]+)[ \t]+import[ \t]+(?:\(([^)]*)\)|([^\n#(]+))", re.MULTILINE)
_QUOTED = re.compile(
    r"^import[ \t]+(?:type[ \t]+)?\{?([\w\s,$*]*?)\}?\s*from\s*[\"'](\.{1,2}/[^\"'\n]+)[\"']", re.MULTILINE
)
_SCRIPT_ENDINGS = (".ts", ".tsx", ".js", ".jsx", ".mjs", "/index.ts", "/index.js")


@dataclass(frozen=True)
class Import:
    """Names taken from one of `files`, paths with `/`, of which at most one exists."""

    names: frozenset[str]
    files: tuple[str, ...]


def imports_of(text: str, file: str, folders: list[str]) -> Iterator[Import]:
    """The imports at the top of `file` that may name files within `folders`; at most 12."""
    head = text[:20_000]
    found = _python(head, file, folders) if file.endswith((".py", ".pyi")) else _script(head, file)
    for count, item in enumerate(found):
        if count == _MOST:
            return
        yield item


def _python(head: str, file: str, folders: list[str]) -> Iterator[Import]:
    for module, bracketed, plain in _PYTHON.findall(head):
        name = module.lstrip(".")
        path = name.replace(".", "/")
        if len(module) > len(name):
            roots = [_up(file, len(module) - len(name))]
        else:
            roots = [root for folder in folders for root in (folder, f"{folder}/src")]
        names = {item.split()[0] for item in re.sub(r"#[^\n]*", "", bracketed or plain).split(",") if item.split()}
        stems = [f"{root}/{path}" if path else root for root in roots]
        files = [f"{stem}{ending}" for stem in stems for ending in (".py", "/__init__.py")]
        # `from package import module`: all of the module is wanted, which is no signature. Left out.
        yield Import(frozenset(names - {"*"}), tuple(files))


def _script(head: str, file: str) -> Iterator[Import]:
    for names, target in _QUOTED.findall(head):
        stem = _join(_up(file, 1), target)
        files = (stem,) if PurePosixPath(stem).suffix in _SCRIPT_ENDINGS else ()
        taken = {item.split()[0] for item in names.split(",") if item.split()}
        yield Import(frozenset(taken), files + tuple(stem + ending for ending in _SCRIPT_ENDINGS))


def _up(file: str, levels: int) -> str:
    path = PurePosixPath(file)
    for _ in range(levels):
        path = path.parent
    return path.as_posix()


def _join(folder: str, target: str) -> str:
    parts = PurePosixPath(folder).parts
    for part in target.split("/"):
        parts = parts[:-1] if part == ".." else parts if part in (".", "") else (*parts, part)
    return PurePosixPath(*parts).as_posix()

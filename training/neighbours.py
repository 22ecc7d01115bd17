"""What stands before a sample as its context: a part of another file of the same package.

Preferred is a file that the current one imports, from the definition of an imported name on: what the sample uses is
then in its prompt, as with the snippets that the editor sends.
"""

from __future__ import annotations

import random
import re
from typing import NamedTuple

from inference_service.model.tokenizer import Tokenizer
from training.shards import TokenDataset

_REACH = 32  # documents to both sides; a package's files stand together, folder by folder
_HEAD = 512  # tokens of a file in which its imports are looked for
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+)?import[ \t]+(\([^)]*\)|[^\n#]+)", re.MULTILINE)
_IMPORTED = re.compile(r"([\w.]+)(?:\s+as\s+\w+)?")


class Import(NamedTuple):
    module: str  # dotted, absolute within the repository where it was relative
    relative: bool
    names: frozenset[str]


def context_text(
    choose: random.Random, dataset: TokenDataset, tokenizer: Tokenizer, document: int, longest: int
) -> tuple[str, str] | None:
    """(path, at most `longest` characters) of another file of the package of `document`; None where it has none."""
    package = dataset.package(document)
    near = range(max(document - _REACH, 0), min(document + _REACH + 1, len(dataset)))
    others = [n for n in near if n != document and dataset.package(n) == package]
    if not others:
        return None
    head = tokenizer.decode(dataset.document(document)[:_HEAD].tolist())
    imports = list(find_imports(dataset.path(document), head))
    imported = [(n, names) for n in others if (names := imported_names(imports, dataset.path(n))) is not None]
    beside = [n for n in others if abs(n - document) <= 2] or others
    other, names = choose.choice(imported) if imported else (choose.choice(beside), frozenset[str]())
    text = tokenizer.decode(dataset.document(other).tolist())
    begin = _definition(text, names)
    if begin is None:
        begin = text.rfind("\n", 0, choose.randrange(max(len(text) - longest, 0) + 1)) + 1
    return dataset.path(other), text[begin : begin + longest]


def find_imports(path: str, text: str) -> list[Import]:
    """The imports of a Python file, `import a.b` and `from .a import b` alike; a name may also be a module."""
    folders = path.removesuffix(".py").split("/")
    found = []
    for source, imported in _IMPORT.findall(text):
        names = _IMPORTED.findall(imported)
        if not source:
            found += [Import(name, False, frozenset()) for name in names]
            continue
        module = source.lstrip(".")
        level = len(source) - len(module)
        if level:
            module = ".".join([*folders[: max(len(folders) - level, 0)], *filter(None, [module])])
        found.append(Import(module, level > 0, frozenset(names)))
        found += [Import(f"{module}.{name}".lstrip("."), level > 0, frozenset()) for name in names]
    return found


def imported_names(imports: list[Import], path: str) -> frozenset[str] | None:
    """The names that come from the file at `path`, perhaps none, or None when it is not imported."""
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    matching = [
        found.names
        for found in imports
        # an absolute name may begin below a folder such as src; a single word is likelier another package
        if module == found.module
        or (not found.relative and "." in found.module and module.endswith(f".{found.module}"))
    ]
    return frozenset[str]().union(*matching) if matching else None


def _definition(text: str, names: frozenset[str]) -> int | None:
    """Where the first definition of any of `names` begins."""
    if not names:
        return None
    either = "|".join(map(re.escape, sorted(names)))
    found = re.search(rf"^(?:(?:async )?def |class )?(?:{either})\b", text, re.MULTILINE)
    return found.start() if found else None

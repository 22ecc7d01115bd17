"""What a file offers to others: the heads of its functions and classes, without their bodies."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

# A piece longer than that would hold up the event loop while it is parsed.
_LONGEST_PIECE = 12_000
_HEAD = re.compile(
    r"^(?:export\s+|pub(?:\([^)]*\))?\s+|public\s+|static\s+|async\s+|default\s+|abstract\s+|final\s+)*"
    r"(?:function|func|fn|class|struct|interface|trait|enum|type|def|module|impl)\b[^\n{;]*",
    re.MULTILINE,
)


def python_pieces(text: str) -> Iterator[str]:
    """`text` cut at its top-level `def` and `class` statements, decorators left out, so that each parses alone."""
    starts = [match.start() for match in re.finditer(r"^(?:async def|def|class)\b", text, re.MULTILINE)]
    for start, stop in pairwise([*starts, len(text)]):
        # The next top-level statement ends it: a line that begins at column 0 and is no closing bracket.
        end = re.compile(r"\n(?=[^\s#)\]}])").search(text, start)
        yield text[start : min(stop, end.start() + 1 if end else stop)]


def python_signature(piece: str, names: set[str]) -> str:
    """The head of the function or class in `piece`, if it is among `names` or `names` is empty; "" otherwise.

    Of a class also the heads of its public methods.
    """
    if len(piece) > _LONGEST_PIECE:
        head = piece[:_LONGEST_PIECE]
        piece = head[: head.rfind("\n    def ")] if "\n    def " in head else ""
    try:
        [node] = ast.parse(piece).body
    except (SyntaxError, ValueError, RecursionError):
        return ""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return _function(node, "") if _wanted(node.name, names) else ""
    if not isinstance(node, ast.ClassDef) or not _wanted(node.name, names):
        return ""
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    lines = [f"class {node.name}({bases}):" if bases else f"class {node.name}:"]
    for item in node.body:
        if isinstance(item, ast.AnnAssign):
            lines.append(f"    {ast.unparse(item.target)}: {ast.unparse(item.annotation)}")
        elif isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and _wanted(item.name, set()):
            lines.append(_function(item, "    "))
    return "\n".join(lines if len(lines) > 1 else [lines[0] + " ..."])


def headings(text: str, names: set[str]) -> str:
    """The lines of other languages that declare one of `names`, up to the body."""
    found = (match[0].rstrip() for match in _HEAD.finditer(text))
    return "\n".join(head for head in found if names & set(re.findall(r"\w+", head)))


def _wanted(name: str, names: set[str]) -> bool:
    return name in names if names else not name.startswith("_") or name == "__init__"


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef, indentation: str) -> str:
    arrow = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return f"{indentation}{kind} {node.name}({ast.unparse(node.args)}){arrow}: ..."

"""What is kept: completions that were made, and what became of them. Ids, counts and names; no code.

Only `Texts` holds code, and only a service with `store_code` makes one.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from os.path import splitext
from typing import Any

# The label of a metric must not be whatever a client makes up.
_LANGUAGES = {
    "c", "clojure", "cpp", "csharp", "css", "dart", "dockerfile", "elixir", "erlang", "fsharp", "go", "groovy",
    "haskell", "html", "java", "javascript", "javascriptreact", "json", "julia", "kotlin", "less", "lua",
    "makefile", "markdown", "objective-c", "ocaml", "perl", "php", "plaintext", "powershell", "python", "r", "ruby",
    "rust", "scala", "scss", "shellscript", "sql", "svelte", "swift", "terraform", "toml", "typescript",
    "typescriptreact", "vue", "xml", "yaml", "zig",
}  # fmt: skip
_BY_SUFFIX = {
    ".c": "c", ".cc": "cpp", ".cpp": "cpp", ".cs": "csharp", ".css": "css", ".go": "go", ".h": "c", ".hpp": "cpp",
    ".html": "html", ".java": "java", ".js": "javascript", ".json": "json", ".jsx": "javascriptreact", ".kt": "kotlin",
    ".lua": "lua", ".md": "markdown", ".php": "php", ".py": "python", ".rb": "ruby", ".rs": "rust", ".scala": "scala",
    ".sh": "shellscript", ".sql": "sql", ".swift": "swift", ".toml": "toml", ".ts": "typescript",
    ".tsx": "typescriptreact", ".vue": "vue", ".xml": "xml", ".yaml": "yaml", ".yml": "yaml",
}  # fmt: skip


def language_of(named: str | None, path: str | None) -> str:
    """LSP's identifier of a language: as named, else by the path; "other" for one not known here, "" for neither."""
    if named:
        return named.lower() if named.lower() in _LANGUAGES else "other"
    return _BY_SUFFIX.get(splitext(path)[1].lower(), "other") if path else ""  # noqa: PTH122 (a Path would take ten times as long)


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion that has ended with some text. `arm` is that of an experiment; `chars` of its text."""

    id: str
    tenant: str
    key_id: str
    model: str
    model_version: str
    language: str
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    lines: int
    chars: int
    arm: str = ""
    created_at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Event:
    """What became of a completion. The id makes it safe to store the same event twice."""

    completion_id: str
    tenant: str
    key_id: str
    event: str
    accepted_chars: int | None
    created_at: float = field(default_factory=time.time)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class Texts:
    """The code of a completion, of the same id."""

    id: str
    tenant: str
    prompt: str
    suffix: str | None
    text: str
    created_at: float = field(default_factory=time.time)


Record = Completion | Event | Texts
TABLES = {Completion: "completions", Event: "events", Texts: "completion_texts"}


def to_line(record: Record) -> bytes:
    """One line of the spool: the table and the row. NUL is left out, which PostgreSQL's text cannot hold."""
    values = ((name, getattr(record, name)) for name in record.__dataclass_fields__)
    row = {name: value.replace("\0", "") if isinstance(value, str) else value for name, value in values}
    return json.dumps([TABLES[type(record)], row], separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> tuple[str, dict[str, Any]] | None:
    """(table, row); None for a line that was not written to its end."""
    try:
        table, row = json.loads(line)
    except ValueError:
        return None
    return (table, row) if line.endswith(b"\n") and table in TABLES.values() else None

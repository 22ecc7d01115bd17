"""Every setting of the language server, once: key, type, default and one line of documentation.

`describe()` is what package.json, the Neovim plugin and the docs are tested against.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any
from urllib.parse import urlsplit

LOCAL = "local"


def _setting(
    key: str,
    kind: str,
    default: Any,
    doc: str,
    *,
    enum: tuple[str, ...] = (),
    minimum: int | None = None,
    maximum: int | None = None,
    secret: bool = False,
) -> Any:
    metadata = {"key": key, "type": kind, "doc": doc, "enum": enum, "minimum": minimum, "maximum": maximum}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """The effective settings. Field names are the camelCase keys in snake_case."""

    endpoint: str = _setting(
        "endpoint",
        "string",
        LOCAL,
        'Where completions come from: "local" (a service on this machine), or the URL of a Midfill service.',
    )
    enable: bool = _setting("enable", "boolean", True, "Show completions.")
    token: str = _setting(
        "token",
        "string",
        "",
        "API key of the service. Prefer the environment variable MIDFILL_TOKEN: settings files get shared.",
        secret=True,
    )
    debounce_ms: int = _setting(
        "debounceMs",
        "integer",
        75,
        "Milliseconds without typing before a completion is requested.",
        minimum=0,
        maximum=5000,
    )
    request_timeout_ms: int = _setting(
        "requestTimeoutMs",
        "integer",
        5000,
        "Milliseconds after which a request to the service is given up.",
        minimum=100,
        maximum=60000,
    )
    mode: str = _setting(
        "mode",
        "string",
        "auto",
        "Complete the rest of the line, a whole block, or decide by the place of the cursor.",
        enum=("auto", "line", "block"),
    )
    max_lines: int = _setting("maxLines", "integer", 12, "Longest completion shown, in lines.", minimum=1, maximum=200)
    max_tokens: int = _setting(
        "maxTokens",
        "integer",
        128,
        "Most tokens the service may generate for one completion.",
        minimum=1,
        maximum=512,
    )
    min_confidence: int = _setting(
        "minConfidence",
        "integer",
        30,
        "Hide completions to which the model gives less than this many per cent a token, on average; "
        "0 shows them all, and so does asking by hand.",
        minimum=0,
        maximum=100,
    )
    ask_ahead: bool = _setting(
        "askAhead",
        "boolean",
        True,
        "While a completion is displayed, ask for what comes after it, unless the service is busy.",
    )
    complete_comments: bool = _setting("completeComments", "boolean", True, "Show completions in comments.")
    complete_strings: bool = _setting("completeStrings", "boolean", True, "Show completions in strings.")
    feedback: bool = _setting(
        "feedback",
        "boolean",
        True,
        "Tell the service what became of completions: ids and numbers of characters, never code.",
    )
    context_enable: bool = _setting(
        "context.enable",
        "boolean",
        True,
        "Send parts of other open files, recent edits and signatures of imported names along.",
    )
    disabled_languages: tuple[str, ...] = _setting(
        "disabledLanguages",
        "array",
        (),
        'Language identifiers without completions, for example ["markdown", "plaintext"].',
    )
    disabled_globs: tuple[str, ...] = _setting(
        "disabledGlobs",
        "array",
        (),
        "Files without completions, besides those that usually hold secrets; "
        'a pattern starting with "!" allows a file again.',
    )


def describe() -> list[dict[str, Any]]:
    """All settings as JSON-ready objects: key (`midfill.…`), type (JSON schema), default, doc, and where they
    apply enum, minimum, maximum, items."""
    rows = []
    for f in fields(Settings):
        default = list(f.default) if isinstance(f.default, tuple) else f.default
        row = {
            "key": f"midfill.{f.metadata['key']}",
            "type": f.metadata["type"],
            "default": default,
            "doc": f.metadata["doc"],
        }
        if f.metadata["type"] == "array":
            row["items"] = {"type": "string"}
        if f.metadata["enum"]:
            row["enum"] = list(f.metadata["enum"])
        for bound in ("minimum", "maximum"):
            if f.metadata[bound] is not None:
                row[bound] = f.metadata[bound]
        rows.append(row)
    return rows


def flatten(raw: object) -> dict[str, Any]:
    """The settings in what an editor sent: `{midfill: {…}}`, `{"midfill.endpoint": …}` or flat keys."""
    if not isinstance(raw, Mapping):
        return {}
    section = raw.get("midfill", raw)
    if not isinstance(section, Mapping):
        return {}
    return dict(_leaves(section, ""))


def _leaves(section: Mapping[Any, Any], above: str) -> Iterator[tuple[str, Any]]:
    """Keys with a dot may also come as sections within sections."""
    for key, value in section.items():
        name = above + str(key).removeprefix("midfill.")
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def parse(raw: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings from camelCase keys, and one sentence for each value that was refused.

    A refused value leaves its default in place. `null` means "not set", as editors send it for unset keys.
    MIDFILL_TOKEN in `environment` wins over a token in `raw`.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    known = {f.metadata["key"]: f for f in fields(Settings)}
    for key, value in raw.items():
        if value is None:
            continue
        if key not in known:
            problems.append(f"midfill.{key}: there is no such setting; it is ignored")
            continue
        metadata = known[key].metadata
        problem = _problem(metadata, value)
        if problem:
            default = known[key].default
            shown = list(default) if isinstance(default, tuple) else default
            problems.append(f"midfill.{key}: {problem}; using the default {shown!r}")
            continue
        values[known[key].name] = tuple(value) if metadata["type"] == "array" else value
    if token := environment.get("MIDFILL_TOKEN", "").strip():
        values["token"] = token
    if not re.fullmatch(r"[!-~]*", values.get("token", "")):
        problems.append("midfill.token or MIDFILL_TOKEN: expected printable ASCII; it is not used")
        del values["token"]
    if "endpoint" in values:
        values["endpoint"] = values["endpoint"].rstrip("/")
    return Settings(**values), problems


def _problem(metadata: Mapping[str, Any], value: object) -> str | None:
    kind = metadata["type"]
    if not _has_type(kind, value):
        expected = "array of strings" if kind == "array" else kind
        # The value itself may be a token that slipped into the wrong key: only its type is named.
        return f"expected {expected}, got {type(value).__name__}"
    if metadata["enum"] and value not in metadata["enum"]:
        return f"expected one of {', '.join(metadata['enum'])}"
    low, high = metadata["minimum"], metadata["maximum"]
    if isinstance(value, int) and low is not None and not low <= value <= high:
        return f"expected {low} to {high}, got {value}"
    if metadata["key"] == "endpoint" and not _is_endpoint(str(value)):
        return 'expected "local" or a URL starting with http:// or https://'
    return None


def _has_type(kind: str, value: object) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str)
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _is_endpoint(value: str) -> bool:
    if value == LOCAL:
        return True
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def with_enable(settings: Settings, enable: bool) -> Settings:
    """The same settings, switched on or off."""
    return replace(settings, enable=enable)

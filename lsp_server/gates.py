"""Why a completion is not even asked for: each gate answers with a reason, or None to let it pass."""

from __future__ import annotations

import re

from lsp_server.decision import rest_of_line
from lsp_server.documents import Snapshot
from lsp_server.ignore import ignored_by
from lsp_server.scope import scope_at
from lsp_server.settings import Settings

# What may stand right of the cursor: closing brackets and quotes, then the line's punctuation.
CLOSING_REST = re.compile(r"\s*[)>}\]\"'`]*\s*[:{;,]?\s*")


def closed(request: Snapshot, settings: Settings) -> str | None:
    """Gates that hold for everything, cached completions and requests by hand included."""
    if not settings.enable:
        return "completions are switched off (midfill.enable or midfill.toggle)"
    if reason := language_off(request.language, settings):
        return reason
    glob = ignored_by(request.file, settings.disabled_globs)
    if glob is not None:
        return f"the file matches {glob}, which is never sent (midfill.disabledGlobs)"
    return _scope_off(request, settings)


def language_off(language: str, settings: Settings) -> str | None:
    """Why nothing in this language is completed."""
    if _is_off(language, settings.disabled_languages):
        return f"language {language} is switched off (midfill.disabledLanguages)"
    return None


def _scope_off(request: Snapshot, settings: Settings) -> str | None:
    if settings.complete_comments and settings.complete_strings:
        return None
    scope = scope_at(request.prefix, request.language)
    if scope == "comment" and not settings.complete_comments:
        return "the cursor is in a comment (midfill.completeComments)"
    if scope == "string" and not settings.complete_strings:
        return "the cursor is in a string (midfill.completeStrings)"
    return None


def unwanted(request: Snapshot, settings: Settings) -> str | None:
    """Gates for requests that the editor made by itself."""
    if settings.trigger == "manual":
        return "completions are shown only when asked by hand (midfill.trigger)"
    rest = rest_of_line(request.suffix)
    if not request.before[request.before.rfind("\n") + 1 :].strip():
        if not settings.leading_whitespace:
            return "the cursor is in leading whitespace (midfill.leadingWhitespace)"
        if rest.strip():
            return "Tab indents the line here; ask by hand to complete"
    if not CLOSING_REST.fullmatch(rest):
        return "the cursor is in the middle of a line; ask by hand to complete here"
    return None


def _is_off(language: str, patterns: tuple[str, ...]) -> bool:
    """The last of `patterns` that names the language decides: itself, "*" for all, "!" for not."""
    off = False
    for pattern in patterns:
        if pattern.removeprefix("!") in (language, "*"):
            off = not pattern.startswith("!")
    return off

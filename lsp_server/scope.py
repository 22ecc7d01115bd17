"""Whether the cursor stands in code, in a comment or in a string, as far as that is seen without a parser."""

from __future__ import annotations

import re
from collections import deque
from typing import Literal

from lsp_server.decision import comment_mark

Scope = Literal["code", "comment", "string"]
_WINDOW = 20_000
_TRIPLE_QUOTES = ('"""', "'''")
_TRIPLE = r'"""(?:\\.|[^\\])*?(?:"""|\Z)|\'\'\'(?:\\.|[^\\])*?(?:\'\'\'|\Z)'
_PLAIN = r'"(?:\\.|[^"\\\n])*(?:"|(?=\n)|\Z)|\'(?:\\.|[^\'\\\n])*(?:\'|(?=\n)|\Z)'
_TEMPLATE = r"`(?:\\.|[^`\\])*(?:`|\Z)"
_BLOCK = r"/\*(?s:.)*?(?:\*/|\Z)"


def scope_at(prefix: str, language: str) -> Scope:
    """The scope at the end of `prefix`. Only its last 20,000 characters count, from a line start on."""
    if len(prefix) > _WINDOW:
        prefix = prefix[-_WINDOW:]
        prefix = prefix[prefix.find("\n") + 1 :]
    last = _last_token(prefix, language)
    if last is None:
        return "code"
    token, mark = last[0], comment_mark(language)
    if token.startswith((mark, "/*")):
        return "code" if token.startswith("/*") and token.endswith("*/") and len(token) > 3 else "comment"
    return "code" if _is_closed(token) else "string"


def open_triple_quote(text: str, language: str) -> int | None:
    """Where the string in triple quotes begins that `text` ends in; None if it ends in none."""
    last = _last_token(text, language)
    return last.start() if last and last[0].startswith(_TRIPLE_QUOTES) and not _is_closed(last[0]) else None


def _last_token(text: str, language: str) -> re.Match[str] | None:
    """The comment or string that `text` ends with, if it does."""
    last = next(iter(deque(_pattern(comment_mark(language)).finditer(text), maxlen=1)), None)
    return last if last and last.end() == len(text) else None


def _is_closed(string: str) -> bool:
    quote = string[:3] if string.startswith(_TRIPLE_QUOTES) else string[0]
    return len(string) >= 2 * len(quote) and string.endswith(quote)


def _pattern(mark: str) -> re.Pattern[str]:
    comment = re.escape(mark) + r"[^\n]*"
    if mark == "#":
        return re.compile(f"{_TRIPLE}|{comment}|{_PLAIN}")
    return re.compile(f"{comment}|{_BLOCK}|{_PLAIN}|{_TEMPLATE}")

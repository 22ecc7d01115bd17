"""Whether the cursor stands in code, in a comment or in a string, as far as that is seen without a parser."""

from __future__ import annotations

import re
from collections import deque
from typing import Literal

from lsp_server.decision import comment_mark

Scope = Literal["code", "comment", "string"]
_WINDOW = 20_000
_TRIPLE = r'"""(?:\\.|[^\\])*?(?:"""|\Z)|\'\'\'(?:\\.|[^\\])*?(?:\'\'\'|\Z)'
_PLAIN = r'"(?:\\.|[^"\\\n])*(?:"|(?=\n)|\Z)|\'(?:\\.|[^\'\\\n])*(?:\'|(?=\n)|\Z)'
_TEMPLATE = r"`(?:\\.|[^`\\])*(?:`|\Z)"
_BLOCK = r"/\*(?s:.)*?(?:\*/|\Z)"


def scope_at(prefix: str, language: str) -> Scope:
    """The scope at the end of `prefix`. Only its last 20,000 characters count, from a line start on."""
    if len(prefix) > _WINDOW:
        prefix = prefix[-_WINDOW:]
        prefix = prefix[prefix.find("\n") + 1 :]
    mark = comment_mark(language)
    last = next(iter(deque(_pattern(mark).finditer(prefix), maxlen=1)), None)
    if last is None or last.end() < len(prefix):
        return "code"
    token = last[0]
    if token.startswith((mark, "/*")):
        return "code" if token.startswith("/*") and token.endswith("*/") and len(token) > 3 else "comment"
    quote = token[:3] if token.startswith(('"""', "'''")) else token[0]
    closed = len(token) >= 2 * len(quote) and token.endswith(quote)
    return "code" if closed else "string"


def _pattern(mark: str) -> re.Pattern[str]:
    comment = re.escape(mark) + r"[^\n]*"
    if mark == "#":
        return re.compile(f"{_TRIPLE}|{comment}|{_PLAIN}")
    return re.compile(f"{comment}|{_BLOCK}|{_PLAIN}|{_TEMPLATE}")

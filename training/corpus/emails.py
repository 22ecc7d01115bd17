"""E-mail addresses of people."""

from __future__ import annotations

import re
from collections.abc import Iterator

from training.corpus.findings import Finding

PLACEHOLDER = "user@example.com"
# the at sign first, for there are few of them; `icon@2x.png` is a file name
_DOMAIN = re.compile(r"@(?!\d+x\.)((?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,24})\b")
# not from within an escape: `\njoe@...` begins at j
_LOCAL = re.compile(r"(?:(?<=\\[nrt])|(?<![\w.+%\\-]))[\w.+%-]{1,64}\Z")
# RFC 2606, and the user of remote addresses
_NOBODY = re.compile(
    r"(.*@(.*\.)?example(\.com|\.net|\.org|\.edu)?|.*\.(test|invalid|localhost)|git@.*)", re.IGNORECASE
)


def find_emails(text: str) -> Iterator[Finding]:
    """Addresses outside the domains that are reserved for examples."""
    for domain in _DOMAIN.finditer(text):
        local = _LOCAL.search(text, max(0, domain.start() - 64), domain.start())
        if local and not _NOBODY.fullmatch(text[local.start() : domain.end()]):
            yield Finding(local.start(), domain.end(), "e-mail address", PLACEHOLDER)

"""Secrets that are known by where they stand: literals that look random, assigned to a name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from detect_secrets.filters.heuristic import is_potential_uuid, is_sequential_string, is_templated_secret
from detect_secrets.plugins.high_entropy_strings import Base64HighEntropyString, HexHighEntropyString
from detect_secrets.plugins.keyword import DENYLIST, KeywordDetector

from training.corpus.findings import Finding, mask

_LITERAL = re.compile(r"""(?<![=!<>])[:=][ \t]*[bBrRuU]{0,2}(["'])([^\s"'\\]{8,200})\1""")
_NAME = re.compile(r"""([\w-]+)["']?\]?[ \t]*(?::[^=\n"']*)?$""")
_SECRET_NAME = re.compile("|".join((*DENYLIST, "token")), re.IGNORECASE)
_LONGEST_NAME = 80
_MIN_RANDOM = 20
_HEX, _HEX_DIGITS = HexHighEntropyString(limit=3.0), re.compile(r"[0-9a-fA-F]+")
_BASE64, _BASE64_DIGITS = Base64HighEntropyString(limit=4.5), re.compile(r"[A-Za-z0-9+/_=-]+")


def find_assigned(text: str) -> Iterator[Finding]:
    """Literals in assignments, keyword arguments and dict entries that a secret-sounding name or entropy gives away.

    Both kinds must mix letters and digits; `password = "password"` and alphabets are left alone.
    """
    for literal in _LITERAL.finditer(text):
        value = literal.group(2)
        if value.isalpha() or not any(map(str.isdigit, value)) or not any(map(str.isalpha, value)):
            continue
        name = _NAME.search(text, max(0, literal.start() - _LONGEST_NAME), literal.start())
        if name is None:
            continue
        kind = _kind(name.group(1), value)
        if kind:
            yield Finding(*literal.span(2), kind, mask(value))


def _kind(name: str, value: str) -> str | None:
    if _SECRET_NAME.search(name) and not _SECRET_NAME.search(value) and not is_templated_secret(value):
        return str(KeywordDetector.secret_type)
    is_alphabet = len(set(value)) == len(value)
    if len(value) < _MIN_RANDOM or is_alphabet or is_sequential_string(value) or is_potential_uuid(value):
        return None
    for plugin, digits in ((_HEX, _HEX_DIGITS), (_BASE64, _BASE64_DIGITS)):
        if digits.fullmatch(value):
            return str(plugin.secret_type) if plugin.calculate_shannon_entropy(value) > plugin.entropy_limit else None
    return None

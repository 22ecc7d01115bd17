"""Secrets in text become x before it is sent, character by character, so that every position stays as it is.

The shapes of keys are the detectors of detect-secrets. It can verify keys over the network with `requests`, which
never happens here and would cost 6 MB, so its import finds an empty module in that place.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from types import ModuleType

# Plugin, what a text with such a key holds (lower case), group that is the secret where its expressions have groups.
# The words keep the slow expressions away from most texts.
_PLUGINS: tuple[tuple[str, str, tuple[str, ...], int], ...] = (
    ("artifactory", "ArtifactoryDetector", ("akc", "ap"), 0),
    ("aws", "AWSKeyDetector", ("akia", "asia", "abia", "acca", "a3t", "aws"), 1),
    ("azure_storage_key", "AzureStorageKeyDetector", ("accountkey=",), 0),
    ("basic_auth", "BasicAuthDetector", ("://",), 1),
    ("cloudant", "CloudantDetector", ("cloudant",), 1),
    ("discord", "DiscordBotTokenDetector", ("discord",), 0),
    ("github_token", "GitHubTokenDetector", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), 0),
    ("gitlab_token", "GitLabTokenDetector", ("glpat-", "gldt-", "glft-", "glsoat-", "glrt-", "gr1348941"), 0),
    ("ibm_cloud_iam", "IbmCloudIamDetector", ("ibm",), 1),
    ("ibm_cos_hmac", "IbmCosHmacDetector", ("ibm",), 1),
    ("jwt", "JwtTokenDetector", ("eyj",), 0),
    ("mailchimp", "MailchimpDetector", ("-us",), 0),
    ("npm", "NpmDetector", ("_authtoken",), 1),
    ("openai", "OpenAIDetector", ("t3blbkfj",), 0),
    ("pypi_token", "PypiTokenDetector", ("pypi-age",), 0),
    ("sendgrid", "SendGridDetector", ("sg.",), 0),
    ("slack", "SlackDetector", ("xox", "hooks.slack.com"), 0),
    ("softlayer", "SoftlayerDetector", ("softlayer",), 1),
    ("square_oauth", "SquareOAuthDetector", ("sq0csp-",), 0),
    ("stripe", "StripeDetector", ("k_live_",), 0),
    ("telegram_token", "TelegramBotTokenDetector", ("telegram", "bot"), 0),
    ("twilio", "TwilioKeyDetector", ("ac", "sk"), 0),
)  # fmt: skip

# A private key may begin or end outside of the text that is sent.
_KEY_BLOCK = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?P<opened>.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY|\Z)"
    r"|\A(?P<cut>[A-Za-z0-9+/=\s\\n\"',:-]*?)-----END [A-Z0-9 ]*PRIVATE KEY",
    re.DOTALL,
)
_KEY_BODY = re.compile(r"[A-Za-z0-9+/=]{8,}")

# Long quoted strings of one alphabet, and what is assigned to a name that promises a secret.
_QUOTED = re.compile(r"""(?<=["'`])[A-Za-z0-9+/=_-]{20,}(?=["'`])""")
_NAME = r"(?:pass(?:word|wd|phrase)|secret|token|api_?key|access_?key|auth_?key|private_?key|client_?secret)"
_TO_SUCH_A_NAME = _NAME + r"""\w*["']?\s*(?::=|=>|=|:)\s*["'`]"""
# A string that was left half typed is no code, so whatever is assigned that way may go. It begins with a letter or a
# digit, for the quote may be the end of a text instead: `input("Password: ").strip()`.
_ASSIGNED = re.compile(
    _TO_SUCH_A_NAME + r"""(?:(?P<whole>[^\s"'`]{8,})["'`]|(?P<half>\w[^\s"'`]{3,})[^\S\n]*$)""",
    re.IGNORECASE | re.MULTILINE,
)
# Where values go without quotes. Elsewhere that would be a name.
_BARE_VALUES_IN = (".yml", ".yaml", ".properties", ".ini", ".cfg", ".conf", ".sh", ".bash", ".zsh", "Dockerfile")
_BARE = re.compile(_NAME + r"""[ \t]*[=:][ \t]*(?P<value>(?![/~.]|\w+://)[^\s"'`]{8,})""", re.IGNORECASE)
_HEXADECIMAL = re.compile(r"[0-9a-fA-F-]+")
# detect-secrets' own limits, in bits a character.
_BASE64_BITS, _HEX_BITS = 4.5, 3.0
# A password is rarely as random; a template to be filled in, or a name without digits, is none.
_ASSIGNED_BITS = 3.0
_REST = re.compile(r"[\w.+/=-]*")
_TEMPLATE = re.compile(r"[{}<>$%]|example|your|xxxx", re.IGNORECASE)


# What somebody is typing at the cursor has the shape of a secret only once it is whole: how known keys begin, and any
# open string that is assigned to such a name.
_BEGUN = re.compile(
    r"(?<!\w)(?:A(?:KIA|SIA|BIA|CCA)|gh[opsur]_|gl(?:pat|dt|ft|soat|rt)-|xox\w-|[rs]k_live_|eyJ|SG\.|sq0csp-|pypi-Age)"
    r"[\w.+/=-]*\Z"
)
_BEGUN_VALUE = re.compile(_TO_SUCH_A_NAME + r"""(?P<value>[^\s"'`]{4,})\Z""", re.IGNORECASE)
_BEGUN_BARE = re.compile(_NAME + r"""[ \t]*[=:][ \t]*(?P<value>[^\s"'`]{4,})\Z""", re.IGNORECASE)
_LONGEST_BEGUN = 400  # characters


def redact(text: str, cursor: int | None = None, path: str = "") -> str:
    """`text` with every letter, digit and underscore of a secret replaced by x; its length and its lines stay.

    At the `cursor`, if given, somebody types: what may become a secret there is one already. The file's `path` tells
    whether values go without quotes in it.
    """
    pieces = []
    end = 0
    bare = path.endswith(_BARE_VALUES_IN)
    begun = [] if cursor is None else _begun(text, cursor, bare)
    for start, stop in sorted([*_secrets(text, bare), *begun]):
        if stop > end:
            start = max(start, end)
            pieces += [text[end:start], re.sub(r"\w", "x", text[start:stop])]
            end = stop
    return "".join([*pieces, text[end:]]) if pieces else text


def prepare() -> None:
    """Import the rules, which takes some 20 ms, now instead of at the first text."""
    _shapes()


def _secrets(text: str, bare: bool) -> Iterator[tuple[int, int]]:
    lower = text.lower()
    for needs, group, expressions in _shapes():
        if any(word in lower for word in needs):
            for expression in expressions:
                for match in expression.finditer(text):
                    span = match.span(min(group, expression.groups))
                    if not group:
                        # An expression may be content with the beginning: the signature of a JWT is optional.
                        yield span[0], _REST.match(text, span[1]).end()  # type: ignore[union-attr]
                    elif not _is_template(text[slice(*span)]):
                        yield span
    if "private key" in lower:
        for block in _KEY_BLOCK.finditer(text):
            for body in _KEY_BODY.finditer(text, *block.span("opened" if block["opened"] is not None else "cut")):
                yield body.span()
    for match in _QUOTED.finditer(text):
        if _is_random(match[0]):
            yield match.span()
    for match in _ASSIGNED.finditer(text):
        if match["half"] and not _is_template(match["half"]):
            yield match.span("half")
        elif match["whole"] and _is_password(match["whole"]):
            yield match.span("whole")
    for match in _BARE.finditer(text) if bare else ():
        if _is_password(match["value"]):
            yield match.span("value")


def _begun(text: str, cursor: int, bare: bool) -> Iterator[tuple[int, int]]:
    first = max(0, cursor - _LONGEST_BEGUN)
    before = text[first:cursor]
    stop = _REST.match(text, cursor).end()  # type: ignore[union-attr]
    if match := _BEGUN.search(before):
        yield first + match.start(), stop
    for shape in (_BEGUN_VALUE, _BEGUN_BARE) if bare else (_BEGUN_VALUE,):
        if (match := shape.search(before)) and not _is_template(match["value"]):
            yield first + match.start("value"), stop


def _is_password(value: str) -> bool:
    return _bits(value) >= _ASSIGNED_BITS and any(map(str.isdecimal, value)) and not _is_template(value)


def _is_template(value: str) -> bool:
    """Whether it is filled in later, as in `://{user}:{password}@` or `://USER:PASSWORD@`."""
    return bool(_TEMPLATE.search(value)) or (value.isalpha() and value.isupper())


def _is_random(value: str) -> bool:
    if _HEXADECIMAL.fullmatch(value):
        return _bits(value) >= _HEX_BITS and not value.isdecimal()
    # Names, paths and prose in quotes have few digits; keys have some.
    return _bits(value) >= _BASE64_BITS and any(map(str.isdecimal, value))


def _bits(value: str) -> float:
    """Shannon's entropy, bits a character."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


@lru_cache(maxsize=1)
def _shapes() -> list[tuple[tuple[str, ...], int, list[re.Pattern[str]]]]:
    """For each detector the words, the group and the expressions."""
    present = sys.modules.get("requests")
    if present is None:
        stand_in = ModuleType("requests")
        stand_in.__dict__["Response"] = object  # named in annotations
        sys.modules["requests"] = stand_in
    try:
        return [
            (needs, group, list(getattr(import_module(f"detect_secrets.plugins.{module}"), name).denylist))
            for module, name, needs, group in _PLUGINS
        ]
    finally:
        if present is None:
            del sys.modules["requests"]

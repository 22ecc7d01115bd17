"""API keys: kept as SHA-256 only, compared in constant time, checked before a body is read."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from inference_service.api.errors import ApiError
from inference_service.settings import SettingsError

OPEN_PATHS = frozenset({"/livez", "/readyz", "/health"})
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def load_keys(path: str) -> tuple[str, ...]:
    """The SHA-256 digests (lower-case hex) in `path`; no path, no keys.

    Raises SettingsError when the file cannot be read, has no keys, or has a line that is not a digest.
    The line is not quoted then: it may be a key that somebody forgot to hash.
    """
    if not path:
        return ()
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError(f"cannot read api_keys_file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"api_keys_file {path} is not a text file") from None
    digests = []
    for number, line in enumerate(lines, 1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        if not _SHA256.fullmatch(text):
            raise SettingsError(f"line {number} of api_keys_file {path} must be the SHA-256 of a key, 64 hex digits")
        digests.append(text.lower())
    if not digests:
        raise SettingsError(f"api_keys_file {path} has no keys")
    return tuple(digests)


class Authentication:
    """ASGI middleware: 401 without a known key, where keys are configured.

    Puts a short id of the key into `scope["midfill.key"]` ("" when anonymous): keys do not share sessions.
    """

    def __init__(self, app: ASGIApp, digests: Sequence[str]) -> None:
        self._app = app
        self._digests = digests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["midfill.key"] = ""
            if self._digests and scope["path"] not in OPEN_PATHS:
                presented = hashlib.sha256(_presented(scope)).hexdigest()
                # Every entry is compared, so that the time tells nothing about which one came close.
                if not sum(hmac.compare_digest(presented, digest) for digest in self._digests):
                    await _refusal().response()(scope, receive, send)
                    return
                scope["midfill.key"] = presented[:12]
        await self._app(scope, receive, send)


def _presented(scope: Scope) -> bytes:
    headers = dict(scope["headers"])
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return bytes(credentials.strip())
    return bytes(headers.get(b"x-api-key", b""))


def _refusal() -> ApiError:
    return ApiError(
        401,
        "invalid_api_key",
        "a valid API key is needed: send Authorization: Bearer KEY, or X-API-Key: KEY",
        headers={"WWW-Authenticate": "Bearer"},
    )

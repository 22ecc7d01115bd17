"""Keys from a file of SHA-256 digests: for a service without a database."""

from __future__ import annotations

import re
from pathlib import Path

from inference_service.settings import SettingsError

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

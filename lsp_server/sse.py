"""Server-sent events, as far as an OpenAI-style stream uses them."""

from __future__ import annotations


class EventDecoder:
    """Bytes as they arrive, cut anywhere, to the payloads of `data:` lines.

    httpx' own line splitting also splits at U+2028 and U+0085, which may stand unescaped inside JSON text.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[str]:
        """The payloads completed by `chunk`, in order. Raises UnicodeDecodeError."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [line[len(b"data:") :].strip(b" \r").decode() for line in lines if line.startswith(b"data:")]

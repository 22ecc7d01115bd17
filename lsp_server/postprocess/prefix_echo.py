"""Models that do not fill in repeat the line that was begun."""

from __future__ import annotations

from lsp_server.postprocess.place import Place

_SHORTEST = 6


def cut_prefix_echo(text: str, place: Place) -> str:
    """Without the cursor's line at the beginning."""
    begun = place.line_prefix.strip()
    written = text.lstrip()
    if len(begun) < _SHORTEST or not written.startswith(begun):
        return text
    rest = written[len(begun) :]
    # `assert_equal` after `assert ` is another word
    if rest[:1].isidentifier() and begun[-1:].isidentifier():
        return text
    return rest

"""Small models write a line again that stands two or three lines above."""

from __future__ import annotations

import re

from lsp_server.postprocess.place import Place

_LINES = 3
_FEWEST_WORDS = 3


def drop_repeated_above(text: str, place: Place) -> str:
    """Nothing, if the cursor's line becomes one of the three above it, indentation included.

    Lines of one or two words (`pass`, `return None`, `},`) do come again, and so does what stands there twice already:
    lines that take turns. Blank lines do not count. The line at once above is a matter of `repetition`, too.
    """
    completed = (place.line_prefix + text.partition("\n")[0]).rstrip()
    if len(re.findall(r"\w+", completed)) < _FEWEST_WORDS:
        return text
    above = [line.rstrip() for line in place.prefix.split("\n")[:-1] if line.strip()][-2 * _LINES :]
    return "" if completed in above[-_LINES:] and above.count(completed) == 1 else text

"""Tabs in a file of tabs, blanks in a file of blanks."""

from __future__ import annotations

import math
import re

from lsp_server.postprocess.place import Place

_INDENTATION = re.compile(r"^[ \t]+(?=\S)", re.MULTILINE)


def use_indentation_unit(text: str, place: Place) -> str:
    """The lines after the first indented as the file is."""
    around = _INDENTATION.findall(place.prefix + "x" + place.suffix)
    first, *lines = text.split("\n")
    written = [match for line in lines for match in _INDENTATION.findall(line)]
    if not around or not written:
        return text
    tabs = sum(indentation.startswith("\t") for indentation in around) * 2 > len(around)
    if tabs and all("\t" not in indentation for indentation in written):
        unit = math.gcd(*map(len, written))
        return "\n".join([first, *(_replace(line, " " * unit, "\t") for line in lines)]) if unit > 1 else text
    if not tabs and any("\t" in indentation for indentation in written):
        unit = math.gcd(*(len(indentation) for indentation in around if "\t" not in indentation)) if around else 4
        return "\n".join([first, *(_replace(line, "\t", " " * (unit if unit > 1 else 4)) for line in lines)])
    return text


def _replace(line: str, old: str, new: str) -> str:
    code = line.lstrip()
    return line[: len(line) - len(code)].replace(old, new) + code

"""Which licences let code into a corpus. What is not recognised stays out."""

from __future__ import annotations

import re
from email.message import Message

_PERMISSIVE = re.compile(
    r"^(mit(-0| license| no attribution)?|the mit license.*|bsd([ -].*)?|0bsd|(new|modified|simplified|revised) bsd.*"
    r"|(2|3)-clause bsd.*|apache.*|asl 2\.0|psf.*|python software foundation.*|python-2\.0.*|isc.*|zlib.*"
    r"|unlicense|the unlicense.*|hpnd"
    r"|historical permission notice.*|zpl.*|zope public license.*|cc0.*|blueoak.*|academic free license.*)$",
    re.IGNORECASE,
)
_COPYLEFT = re.compile(
    r"gpl|copyleft|mozilla|mpl|eclipse|epl|cddl|eupl|proprietary|commercial|creative commons.*(sa|nc)", re.I
)
_LONGEST_NAME = 80  # some packages paste the whole licence text into the field; that is not a name


def permissive_licence(metadata: Message) -> str | None:
    """The licence named by a package's core metadata if it is permissive, else None.

    Order: `License-Expression` (PEP 639), trove classifiers, `License`. Every part of an AND/OR expression and
    every classifier must be permissive.
    """
    expression = (metadata.get("License-Expression") or "").strip()
    if expression:
        parts = re.split(r"\s+(?:AND|OR)\s+", expression.replace("(", "").replace(")", ""), flags=re.I)
        return expression if all(_is_permissive(part) for part in parts) else None
    names = [
        classifier.split("::")[-1].strip()
        for classifier in metadata.get_all("Classifier") or []
        if classifier.startswith("License ::") and classifier.count("::") > 1
    ]
    if names:
        return " AND ".join(names) if all(_is_permissive(name) for name in names) else None
    licence = (metadata.get("License") or "").strip()
    if licence and len(licence) <= _LONGEST_NAME:
        parts = re.split(r"\s+(?:AND|OR)\s+|/|,", licence, flags=re.I)
        return licence if all(_is_permissive(part) for part in parts) else None
    return None


def _is_permissive(name: str) -> bool:
    name = name.strip().strip('"').strip()
    return bool(_PERMISSIVE.match(name)) and not _COPYLEFT.search(name)

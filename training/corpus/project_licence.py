"""The licence of a source tree: what its metadata names, else what its LICENSE file says."""

from __future__ import annotations

import configparser
import re
import tomllib
from email.message import Message
from pathlib import Path
from typing import Any

from training.corpus.licences import permissive_licence

_MAX_LICENCE_CHARS = 40_000
# a sentence that each licence has and no other one does, white space aside
_SENTENCES = (
    ("Apache-2.0", "apache license version 2.0, january 2004"),
    ("ISC", "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is"),
    ("ISC", "permission to use, copy, modify, and distribute this software for any purpose with or without fee is"),
    ("BSD", "redistribution and use in source and binary forms, with or without modification, are permitted provided"),
    ("MIT", "permission is hereby granted, free of charge, to any person obtaining a copy of this software and"),
    ("PSF-2.0", "python software foundation license version 2"),
    ("Unlicense", "this is free and unencumbered software released into the public domain"),
    (
        "Zlib",
        "this software is provided 'as-is', without any express or implied warranty. in no event will the authors",
    ),
)
_COPYLEFT = re.compile(r"\bgnu\b|mozilla public|eclipse public|commons clause|non-?commercial", re.IGNORECASE)


def project_licence(folder: Path) -> str | None:
    """The permissive licence of the project in `folder`, or None. Nothing of the project is executed."""
    for headers in (_pyproject(folder), _setup_cfg(folder)):
        if headers.keys():
            return permissive_licence(headers)
    texts = [
        path.read_text(encoding="utf-8", errors="replace")[:_MAX_LICENCE_CHARS]
        for path in sorted(folder.iterdir())
        if path.is_file() and re.match(r"(licen[sc]e|copying|unlicense)", path.name, re.IGNORECASE)
    ]
    found = [licence_of_text(text) for text in texts]
    known = sorted({licence for licence in found if licence is not None})
    return " AND ".join(known) if known and len(known) == len(set(found)) else None


def licence_of_text(text: str) -> str | None:
    """The permissive licence whose sentence is in `text`, or None; None too when a copyleft licence is mentioned."""
    if _COPYLEFT.search(text):
        return None
    plain = " ".join(text.lower().replace('"', "'").split())
    return next((name for name, sentence in _SENTENCES if sentence in plain), None)


def _pyproject(folder: Path) -> Message:
    data = _toml(folder / "pyproject.toml")
    headers = Message()
    for table in (data.get("project", {}), data.get("tool", {}).get("poetry", {})):
        licence = table.get("license")
        if isinstance(licence, str):
            headers["License-Expression"] = licence
        elif isinstance(licence, dict) and "text" in licence:
            headers["License"] = licence_of_text(licence["text"]) or licence["text"]
        _add_classifiers(headers, table.get("classifiers", []))
    return headers


def _setup_cfg(folder: Path) -> Message:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(folder / "setup.cfg", encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return Message()
    headers = Message()
    if parser.has_option("metadata", "license"):
        headers["License"] = parser.get("metadata", "license")
    _add_classifiers(headers, parser.get("metadata", "classifiers", fallback="").splitlines())
    return headers


def _add_classifiers(headers: Message, classifiers: list[str]) -> None:
    for classifier in classifiers:
        if classifier.strip().startswith("License ::"):
            headers["Classifier"] = classifier.strip()


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return {}

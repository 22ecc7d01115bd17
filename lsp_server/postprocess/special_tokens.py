"""Models now and then write their sentinels out as text."""

from __future__ import annotations

import re

from lsp_server.postprocess.place import Place

_SENTINEL = re.compile(
    r"<\|(?:endoftext|im_start|im_end|file_sep|file_separator|repo_name|fim_\w+|cursor|end_of_text|eot_id)\|>"
    r"|<(?:fim_(?:prefix|middle|suffix|pad)|file_sep|repo_name|reponame|filename|endoftext|PRE|SUF|MID|EOT)>"
)


def cut_at_special_token(text: str, place: Place) -> str:
    """What comes after a sentinel belongs to another document."""
    match = _SENTINEL.search(text)
    return text[: match.start()] if match else text

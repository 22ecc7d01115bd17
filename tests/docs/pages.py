"""What the pages say that one types, and whether a test types it.

Commands stand in fences of `sh` or `python`. All of a page are run in their order, in one shell in an empty folder. A
fence that cannot be run says why in a comment on the line before it, `<!-- not run: … -->`; a page of which nothing can
be run says so once, `<!-- not run, the whole page: … -->`. A comment `<!-- needs: service -->` anywhere on the page
gives it a service with the bundled model on port 8000, `<!-- needs: code -->` two folders of Python code, `$CODE` and
`$MEASURED`.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
COMMANDS = {"sh", "python"}
_FENCE = re.compile(  # also within a list, where it is indented
    r"^(?: *<!-- not run: (?P<why>[^\n]*?) -->\n)?(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$", re.M | re.S
)
_WHOLE_PAGE = re.compile(r"<!-- not run, the whole page: (.*?) -->", re.S)
_NEEDS = re.compile(r"<!-- needs: (\w+) -->")


@dataclass(frozen=True, slots=True)
class Fence:
    """`why` it is not run, None where it is."""

    language: str
    text: str
    why: str | None


def fences(page: Path) -> list[Fence]:
    text = page.read_text(encoding="utf-8")
    whole = _WHOLE_PAGE.search(text)
    return [
        Fence(
            match["language"],
            textwrap.dedent(match["text"]),
            match["why"] or (whole[1] if whole and match["language"] in COMMANDS else None),
        )
        for match in _FENCE.finditer(text)
    ]


def needs(page: Path) -> set[str]:
    return set(_NEEDS.findall(page.read_text(encoding="utf-8")))


def script(page: Path, port: int) -> str:
    """What the page says, as one bash script; empty where nothing is to be run. Port 8000 becomes `port`."""
    parts = []
    for fence in fences(page):
        if fence.language == "sh" and fence.why is None:
            parts.append(fence.text)
        elif fence.language == "python" and fence.why is None:
            parts.append(f"python - <<'END_OF_PYTHON'\n{fence.text}END_OF_PYTHON\n")
    if not parts:
        return ""
    text = re.sub(r"(:|--port )8000\b", rf"\g<1>{port}", "".join(parts))
    return f"set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{text}"


def unfenced(page: Path) -> list[str]:
    """Lines that Markdown shows as code by their indentation alone: they would escape the test."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return re.findall(r"(?<=\n\n) {4,}\S.*", re.sub(r"\n +\n", "\n\n", text))

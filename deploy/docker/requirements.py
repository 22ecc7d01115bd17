"""Print what the image installs before Midfill itself, so that a change of code leaves the large layer as it is.

python3 requirements.py cluster,grpc     the requirements in pyproject.toml beside it, with these extras
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

_OWN = re.compile(r"midfill\[(?P<extras>[^]]+)\]")


def requirements(project: dict[str, Any], extras: list[str]) -> list[str]:
    """Those of the base install and of `extras`, with the extras that these name. KeyError: there is no such extra."""
    found = set(project["dependencies"])
    waiting, seen = list(extras), set()
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for line in project["optional-dependencies"][extra]:
            if own := _OWN.fullmatch(line):
                waiting += own["extras"].split(",")
            else:
                found.add(line)
    return sorted(found)


if __name__ == "__main__":
    pyproject = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text(encoding="utf-8"))
    print("\n".join(requirements(pyproject["project"], sys.argv[1].split(","))))

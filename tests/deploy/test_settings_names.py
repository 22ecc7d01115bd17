"""No file of deploy/ sets something that nobody reads."""

from __future__ import annotations

import dataclasses
import re

from inference_service.settings import Settings, unread
from tests.deploy.manifests import DEPLOY

ROOT = DEPLOY.parent
NAME = re.compile(r"\bMIDFILL_[A-Z][A-Z_0-9]*[A-Z0-9]\b")
TEXTS = [
    path
    for folder in (DEPLOY, ROOT / ".github")
    for path in sorted(folder.rglob("*"))
    if path.is_file()
    and path.suffix in {"", ".yaml", ".yml", ".sh", ".conf", ".model", ".example", ".template", ".env"}
]


def names(*texts: str) -> set[str]:
    return {name for text in texts for name in NAME.findall(text)}


def read_by_somebody() -> set[str]:
    """The service's settings, what else its code asks the environment for, and the variables of templates."""
    settings = {f"MIDFILL_{item.name.upper()}" for item in dataclasses.fields(Settings)}
    code = [
        path.read_text(encoding="utf-8")
        for package in ("inference_service", "lsp_server", "training")
        for path in (ROOT / package).rglob("*.py")
    ]
    templates = [
        path.read_text(encoding="utf-8")
        for path in [*(DEPLOY / "nginx").glob("*"), *(DEPLOY / "monitoring" / "provisioning").glob("*")]
    ]
    # what a script reads itself, with a value for where it is not set
    scripts = [path.read_text(encoding="utf-8") for path in TEXTS if path.suffix == ".sh"]
    options = {name for text in scripts for name in re.findall(r"\$\{(MIDFILL_[A-Z_]+):-", text)}
    return options | settings | names(*code) | names(*templates) | {"MIDFILL_IMAGE"}


def test_every_variable_is_a_setting():
    known = read_by_somebody()
    unknown = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in TEXTS
        for name in names(path.read_text(encoding="utf-8")) - known
    }
    assert unknown == set()


def test_the_service_warns_of_none_that_somebody_else_reads():
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "e2e").rglob("*.py")]
    assert unread(dict.fromkeys(read_by_somebody() | names(*tests), "")) == []


def test_a_misspelt_one_is_not_known():
    assert "MIDFILL_DRAIN_S" in read_by_somebody()
    assert "MIDFILL_DRAIN_SECONDS" not in read_by_somebody()

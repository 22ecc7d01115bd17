"""Every alert leads to a section that exists, and what runbooks tell people to type exists, too."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from deploy import cost
from deploy.monitoring.render import main as render
from inference_service.__main__ import main as serve
from inference_service.api.openapi import document
from inference_service.app import create_app
from inference_service.backends.local import LocalBackend
from inference_service.settings import Settings
from lsp_server.__main__ import main as lsp
from tests.deploy.promql import OTHERS, RULES, names

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "deploy" / "runbooks").glob("*.md"))
TEXTS = {path.name: path.read_text() for path in PAGES}
WITH_EVENING = TEXTS | {"operations.md": (ROOT / "docs" / "operations.md").read_text()}
# of the system, nothing of ours
FOREIGN = {"amtool", "dmesg", "echo", "export", "nginx", "nvidia-smi", "openssl", "psql", "python3", "redis-cli"}


def anchors(text: str) -> set[str]:
    """As GitHub and GitLab make them from headings."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> list[tuple[str, str]]:
    """Page and line of everything in a shell block."""
    blocks = [
        (name, found) for name, text in TEXTS.items() for found in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    ]
    return [(name, line) for name, block in blocks for line in block.splitlines()]


def help_of(main, words: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0, words
    return capsys.readouterr().out


def test_every_alert_leads_to_its_section():
    alerts = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in RULES if "alert" in rule}
    assert len(alerts) > 30
    for alert, url in alerts.items():
        path, _, anchor = url.partition("#")
        assert anchor == alert.lower() and anchor in anchors((ROOT / path).read_text()), url
    sections = {found for text in TEXTS.values() for found in re.findall(r"^## (Midfill\w+)$", text, re.MULTILINE)}
    assert sections == set(alerts)


def test_every_section_of_an_alert_says_what_it_means_what_users_see_and_where_to_look():
    for name, text in TEXTS.items():
        for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
            if section.startswith("Midfill"):
                title = f"{name}: {section.splitlines()[0]}"
                assert "**Meaning:**" in section and "```sh" in section, title
                rest = section.lower()
                # or the section that it names says it
                assert ("users see" in rest and "fix" in rest) or re.search(r"\]\(#midfill", rest), title


def test_the_commands_name_what_exists(capsys):
    settings = Settings()
    paths = document(create_app(settings, LocalBackend(settings.model)), settings)["paths"]
    known = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    known |= {f"{name}{end}" for name in known for end in ("_bucket", "_count", "_sum")} | OTHERS
    known |= {rule["record"] for rule in RULES if "record" in rule}
    tried = set()
    for page, line in commands():
        words = shlex.split(line.replace("| ", " | "))
        program, said = words[0], f"{page}: {line}"
        tried.add(program)
        if program == "curl":
            (url,) = [word for word in words if re.match(r"\$(MIDFILL|REPLICA|UPSTREAM)/|http", word)]
            path = re.sub(r"^(\$\w+|https?://[^/]+)/", "", url)
            path = re.sub(r"models/[0-9a-f]{12}/", "models/{version}/", path)
            method = words[words.index("-X") + 1].lower() if "-X" in words else "get"
            assert method in paths[f"/{path}"], said
        elif words[:2] == ["promtool", "query"]:
            assert words[2:4] == ["instant", "$PROMETHEUS"] and names(words[4]) <= known, said
        elif words[:2] == ["promtool", "check"]:
            assert (ROOT / words[-1]).exists(), said
        elif program == "midfill-serve":
            sub = [word for word in words[1:3] if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
            told = help_of(serve, sub, capsys)
            assert all(word in told for word in words if word.startswith("--")), said
        elif program == "midfill-lsp":
            told = help_of(lsp, words[1:2], capsys)
            assert all(word in told for word in words if word.startswith("--")), said
        elif words[:3] == ["python", "-m", "deploy.cost"]:
            cost.main(words[3:])
        elif words[:3] == ["python", "-m", "deploy.monitoring.render"]:
            told = help_of(render, [], capsys)
            assert all(word in told for word in words if word.startswith("--")), said
        elif program == "locust" or program.startswith("deploy/"):
            assert all((ROOT / word).exists() for word in words if word.startswith("deploy/")), said
        elif program == ".venv/bin/pip":
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            assert words[-1].strip(".[]") in extras, said
        else:
            assert program in FOREIGN, said
    assert tried > {"curl", "promtool", "midfill-serve", "midfill-lsp", "python"}


def test_options_and_metrics_in_the_text_exist(capsys):
    told = help_of(serve, [], capsys) + help_of(serve, ["keys", "create"], capsys)
    told += help_of(render, [], capsys) + help_of(serve, ["evaluate-live"], capsys)
    metrics = (ROOT / "docs" / "metrics.md").read_text()
    for name, text in WITH_EVENING.items():
        prose = re.sub(r"```sh\n.*?```", "", text, flags=re.DOTALL)
        for option in re.findall(r"`(--[a-z][a-z-]+)", prose):
            assert option in told or option in ("--gpus", "--smoke"), f"{name}: {option}"
        for metric in re.findall(r"`(midfill_\w+)", prose):
            assert f"`{metric}`" in metrics, f"{name}: {metric}"

"""The commands of docs/keys-and-quotas.md are run, in their order."""

import os
import re
import shlex
from pathlib import Path

from inference_service.__main__ import main

PAGE = Path(__file__).parents[2] / "docs" / "keys-and-quotas.md"


def test_the_documented_commands_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "environ", {**os.environ, "MIDFILL_DATABASE": f"sqlite:///{tmp_path}/midfill.sqlite"})
    commands = re.findall(r"^    midfill-serve (.*)$", PAGE.read_text().replace("\\\n", ""), flags=re.MULTILINE)
    assert len(commands) == 7
    key_id = ""
    for command in commands:
        words = shlex.split(command.replace(" ID", f" {key_id}"), comments=True)
        if words[0] == "evaluate-live":  # tests/inference_service/api/test_evaluate_live.py
            continue
        assert main(words) == 0, command
        out = capsys.readouterr().out
        key_id = out.split("_")[1] if out.startswith("mf_") else key_id


def test_every_scope_and_dependency_is_on_the_page():
    from inference_service.guard.principal import SCOPES

    text = PAGE.read_text()
    for name in (*SCOPES, "degraded.redis", "degraded.keys", "degraded.events"):
        assert f"`{name}`" in text

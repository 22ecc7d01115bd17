"""The commands of docs/cluster.md that back up and restore are run, with SQLite."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cluster.processes import ROOT, service_environment
from tests.docs.pages import fences

PAGE = ROOT / "docs" / "cluster.md"


@pytest.fixture
def machine(tmp_path):
    """`run(script)` in a folder that has the page's folders as its own; the environment is that of an operator."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    models = tmp_path / "srv/midfill/models"
    (models / "one").mkdir(parents=True)
    (models / "one" / "card.md").write_text("# one\n")
    (models / "rollout.json").write_text("{}")
    (tmp_path / "var/lib/midfill/spool").mkdir(parents=True)
    (tmp_path / "var/lib/midfill/spool" / "waiting").write_text("events")
    environment = {
        **service_environment({}), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MIDFILL_DATABASE": f"sqlite:///{tmp_path}/var/lib/midfill/midfill.sqlite",
    }  # fmt: skip

    def run(script):
        script = re.sub(r"(?<![\w.])/(var|srv|mnt)/", rf"{tmp_path}/\1/", script)
        return subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def documented(word):
    """The commands of the page that has `word` in them."""
    return next(fence.text for fence in fences(PAGE) if word in fence.text)


def test_backup_and_restore_as_the_page_has_them(machine, tmp_path):
    created = machine("midfill-serve keys create --owner me")
    assert created.returncode == 0, created.stderr
    keys = machine("midfill-serve keys list").stdout
    backed_up = machine(documented("backup.sh") + 'echo "$BACKUP"')
    assert backed_up.returncode == 0, backed_up.stderr
    backup = Path(backed_up.stdout.strip())
    assert {path.name for path in backup.iterdir()} == {"SHA256SUMS", "database.sqlite", "models.tar", "spool.tar"}

    machine("midfill-serve keys create --owner later")
    shutil.rmtree(tmp_path / "srv/midfill/models")
    (tmp_path / "var/lib/midfill/spool" / "waiting").write_text("other events")
    prepared = documented("backup.sh").splitlines()[0] + f"\nBACKUP={backup}\n"
    refused = machine(prepared + documented("restore.sh").replace(" --replace", ""))
    assert refused.returncode == 1 and "pass --replace" in refused.stderr
    assert "later" in machine("midfill-serve keys list").stdout, "nothing was changed"

    restored = machine(prepared + documented("restore.sh"))
    assert restored.returncode == 0, restored.stderr
    assert restored.stdout.endswith(keys)
    assert (tmp_path / "srv/midfill/models/one/card.md").read_text() == "# one\n"
    assert (tmp_path / "var/lib/midfill/spool/waiting").read_text() == "events"
    assert (tmp_path / "var/lib/midfill/spool.before/waiting").read_text() == "other events"


def test_a_damaged_backup_changes_nothing(machine, tmp_path):
    machine("midfill-serve keys create --owner me")
    backup = Path(machine(documented("backup.sh") + 'echo "$BACKUP"').stdout.strip())
    dump = backup / "database.sqlite"
    dump.write_bytes(dump.read_bytes()[:-1] + b"x")
    machine("midfill-serve keys create --owner later")
    prepared = documented("backup.sh").splitlines()[0] + f"\nBACKUP={backup}\n"
    refused = machine(prepared + documented("restore.sh"))
    assert refused.returncode == 1 and "is damaged; nothing was changed" in refused.stderr
    assert "later" in machine("midfill-serve keys list").stdout


def test_every_variable_of_the_renderer_is_in_its_head():
    script = (ROOT / "deploy" / "nginx" / "render.sh").read_text()
    head = script.partition("set -eu")[0]
    assert set(re.findall(r"\$\{(MIDFILL_\w+):-", script)) <= set(re.findall(r"MIDFILL_\w+", head))

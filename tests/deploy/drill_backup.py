"""Backup, wipe, restore, same answers; run by test_cluster.py."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from deploy.cluster.processes import ROOT
from deploy.cluster.programs import find
from tests.deploy.drill_rollout import until_all

SCRIPTS = ROOT / "deploy" / "scripts"


def script(cluster, name, *arguments, **environment):
    programs = os.pathsep.join([str(Path(sys.executable).parent), str(Path(find("pg_dump", "postgresql")).parent)])
    settings = {
        "MIDFILL_DATABASE": cluster.database,
        "MIDFILL_MODELS": str(cluster.models),
        "MIDFILL_SPOOL_DIR": str(cluster.spool),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
    }
    command = [str(SCRIPTS / name), *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, **settings, **environment}, capture_output=True, text=True)


async def answers(cluster):
    """What a fixed set of prompts gets, with the version."""
    async with cluster.client() as client:
        found = []
        for number in range(4):
            body = {"prompt": f"def add_{number}(a, b):\n    return ", "max_tokens": 12, "temperature": 0}
            answer = (await client.post("/v1/completions", json=body)).json()
            found.append((answer["choices"][0]["text"], answer["midfill"]["model_version"]))
        return found


@pytest.mark.timeout(400)
async def test_a_wiped_cluster_comes_back_from_its_backup(cluster, tmp_path):
    version = cluster.add_version("second")
    async with cluster.client(cluster.admin_key, cluster.operator_url) as operator:
        activated = await operator.post(f"/admin/models/{version}/activate")
        assert activated.status_code == 200, activated.text
    await until_all(cluster, lambda models, _: models["active"] == version)
    before, keys = await answers(cluster), cluster.command("keys", "list")

    done = script(cluster, "backup.sh", tmp_path / "backups")
    assert done.returncode == 0, done.stderr
    backup = Path(done.stdout.strip())
    assert backup.stat().st_mode & 0o077 == 0
    for replica in cluster.replicas:
        replica.stop()
    assert script(cluster, "restore.sh", backup).returncode == 1, "there is something that it would overwrite"

    with psycopg.connect(cluster.database, autocommit=True) as connection:
        events = connection.execute("SELECT count(*) FROM completions").fetchone()
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    shutil.rmtree(cluster.models)
    shutil.rmtree(cluster.spool)
    done = script(cluster, "restore.sh", backup)
    assert done.returncode == 0, done.stderr
    print(done.stderr)

    for replica in cluster.replicas:
        replica.start(wait=False)
    for replica in cluster.replicas:
        await asyncio.to_thread(replica.wait_until_ready)
    assert cluster.command("keys", "list") == keys
    assert await answers(cluster) == before, "the same keys, the active version, the same text"
    with psycopg.connect(cluster.database) as connection:
        assert connection.execute("SELECT count(*) FROM completions").fetchone() >= events
    async with cluster.client(cluster.admin_key, cluster.operator_url) as operator:
        assert (await operator.post("/admin/models/rollback")).status_code == 200
    await until_all(cluster, lambda models, _: models["active"] != version)

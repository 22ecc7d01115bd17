"""New models and new replicas, good and bad, while people type; run by test_cluster.py."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.cluster.processes import ROOT
from deploy.cluster.programs import find
from inference_service.model import directory
from tests.conftest import BUNDLED_NANO
from tests.deploy.editors import failures

SESSIONS = [f"rollout-{number}" for number in range(450)]


@pytest.fixture
async def operator(cluster):
    async with cluster.client(cluster.admin_key, cluster.operator_url) as client:
        yield client
        await client.delete("/admin/experiments")
        await until_all(cluster, lambda _, experiments: experiments["experiments"] == [])
    for version in cluster.models.iterdir():
        if version.is_dir():
            shutil.rmtree(version)


async def until_all(cluster, agrees):
    """Until `agrees(models, experiments)` of every replica; they look every five seconds what was decided."""
    async with cluster.client(cluster.admin_key) as client, asyncio.timeout(60):
        for replica in cluster.replicas:
            while True:
                models = (await client.get(f"{replica.url}/admin/models")).json()
                experiments = (await client.get(f"{replica.url}/admin/experiments")).json()
                if agrees(models, experiments):
                    break
                await asyncio.sleep(0.2)


async def complete(client, session, max_tokens=1):
    """(id, version) of one answer."""
    headers = {"X-Midfill-Session": session}
    body = {"prompt": f"# {session}\nx = ", "max_tokens": max_tokens, "temperature": 1, "session": session}
    answer = await client.post("/v1/completions", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"], answer.json()["midfill"]["model_version"]


async def test_a_damaged_model_reaches_nobody(cluster, operator):
    version = cluster.add_version("damaged")
    weights = cluster.models / "damaged" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    answer = await operator.post(f"/admin/models/{version}/activate")
    assert answer.status_code == 409 and "model.safetensors" in answer.json()["error"]["message"]
    async with cluster.client() as client:
        assert {(await complete(client, session))[1] for session in SESSIONS[:12]} == {
            directory.load(BUNDLED_NANO).version
        }


async def test_a_bad_canary_is_taken_back_by_all_replicas(cluster, operator, tiny_model_dir):
    """A tenth of the documents get it; nobody accepts what it writes."""
    good, bad = directory.load(BUNDLED_NANO).version, cluster.add_version("bad", like=tiny_model_dir)
    experiment = {"version": bad, "kind": "canary", "percent": 10, "min_samples": 10}
    begun = await operator.put("/admin/experiments", json=experiment)
    assert begun.status_code == 200, begun.text
    await until_all(cluster, lambda _, experiments: len(experiments["experiments"]) == 1)

    # all that these documents say comes from one client here, which the second line would stop
    url, nginx = cluster.another_nginx(MIDFILL_RATE="10000", MIDFILL_BURST="10000")
    nginx.start()
    room = asyncio.Semaphore(16)
    async with cluster.client(url=url) as client:

        async def ask(session):
            async with room:
                return await complete(client, session)

        async def tell(session, completion, event):
            async with room:
                headers = {"X-Midfill-Session": session}
                body = {"completion_id": completion, "event": event}
                assert (await client.post("/v1/events", json=body, headers=headers)).status_code == 202

        answers = dict(zip(SESSIONS, await asyncio.gather(*map(ask, SESSIONS)), strict=True))
        canary = {session for session, (_, version) in answers.items() if version == bad}
        assert {version for _, version in answers.values()} == {good, bad}
        assert 0.04 < len(canary) / len(SESSIONS) < 0.18, "ten in a hundred, give or take"
        again = sorted(canary)[:5] + sorted(set(SESSIONS) - canary)[:5]
        assert [(await ask(session))[1] for session in again] == [bad] * 5 + [good] * 5, "a document keeps its version"

        for event in ("shown", "accepted"):
            told = answers if event == "shown" else set(answers) - canary
            await asyncio.gather(*(tell(session, answers[session][0], event) for session in told))
        await until_all(cluster, lambda _, experiments: experiments["experiments"] == [])
        assert {(await ask(session))[1] for session in sorted(canary)} == {good}
    nginx.stop()
    ended = [experiments["last_rollback"] for experiments in await of_each(cluster, "/admin/experiments")]
    assert {one["reason"] for one in ended if one} == {"acceptance"}


async def of_each(cluster, path):
    async with cluster.client(cluster.admin_key) as client:
        return [(await client.get(f"{replica.url}{path}")).json() for replica in cluster.replicas]


async def test_blue_and_green_change_places_without_a_lost_request(cluster, tmp_path):
    blue, green = cluster.replicas[:2], cluster.replicas[2:]
    url, nginx = cluster.another_nginx(MIDFILL_REPLICAS=" ".join(replica.address for replica in blue))
    nginx.start()
    environment = {
        **os.environ,
        **nginx.settings,
        "BLUE": " ".join(replica.address for replica in blue),
        "GREEN": " ".join(replica.address for replica in green),
        "NGINX": find("nginx", "nginx"),
        "NGINX_CONF": str(nginx.config),
        "MIDFILL_TOKEN": cluster.key,
    }

    async def run(*words, **other):
        command = [str(ROOT / "deploy" / "scripts" / "blue_green.sh"), *words]
        return await asyncio.to_thread(
            subprocess.run, command, env={**environment, **other}, capture_output=True, text=True
        )

    def served_since(line):
        return {entry["replica"] for entry in cluster.accesses(nginx)[line:]}

    async with cluster.editors(6, url=url) as editors:
        await editors.answers(10)
        for other in ({"GREEN": "127.0.0.1:9"}, {"MIDFILL_TOKEN": "mf_wrong"}, {"MIDFILL_RATE": "many"}):
            refused = await run("switch", "green", **other)
            assert refused.returncode == 1 and refused.stderr, other
        for words, serving in ((("switch", "blue"), blue), (("switch", "green"), green), (("rollback",), blue)):
            done = await run(*words)
            assert done.returncode == 0, done.stderr
            await editors.answers(6)  # what was begun before ends where it began
            lines = len(cluster.accesses(nginx))
            await editors.answers(10)
            assert served_since(lines) <= {replica.address for replica in serving}
        assert (await run("status")).stdout == "serving: blue\nbefore: green\n"
    assert not failures(editors.outcomes)
    nginx.stop()
    assert not list(Path(nginx.folder).glob("*.kept"))

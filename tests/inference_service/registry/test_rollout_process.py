"""Drills on real processes: swap under load, restart."""

import asyncio
import json
import signal

import httpx
import pytest

CLIENTS = 20


async def _keep_asking(url, until, seen, failures, number):
    """One editor: streams and whole answers in turn, each read to its end."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        turn = 0
        while not until.is_set():
            turn += 1
            body = {
                "prompt": f"value_{number}_{turn} = ",
                "max_tokens": 12,
                "n": 2,
                "temperature": 0.5,
                "model": "tiny",
            }
            body["session"] = f"session-{number}"
            if turn % 2:
                answer = await client.post("/v1/completions", json=body)
                if answer.status_code != 200:
                    failures.append(answer.text)
                else:
                    seen.append((answer.json()["midfill"]["model_version"],))
                continue
            versions, finished = [], False
            async with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as response:
                if response.status_code != 200:
                    failures.append(response.status_code)
                    continue
                async for line in response.aiter_lines():
                    if line == "data: [DONE]":
                        finished = True
                    elif line:
                        data = json.loads(line[6:])
                        if "error" in data:
                            failures.append(line)
                        versions += [data["midfill"]["model_version"]] if "midfill" in data else []
            seen.append(tuple(versions))
            if not finished:
                failures.append("a stream broke off")


async def _answered_by(version, seen):
    """Return when, from now on, this version has answered a few times."""
    before = len(seen)
    while sum(version in versions for versions in seen[before:]) < CLIENTS:
        await asyncio.sleep(0.02)


async def test_swap_under_load_loses_nothing_and_mixes_nothing(start_service, store):
    url, _ = start_service("--max-queue", "200")
    until, seen, failures = asyncio.Event(), [], []
    clients = [asyncio.create_task(_keep_asking(url, until, seen, failures, number)) for number in range(CLIENTS)]
    async with httpx.AsyncClient(base_url=url, timeout=60) as operator:
        for version in (store.one, store.two, store.one):
            answer = await operator.post(f"/admin/models/{version}/activate")
            assert answer.status_code == 200 and answer.json()["active"] == version, answer.text
            await _answered_by(version, seen)
        assert (await operator.post("/admin/models/rollback")).json()["active"] == store.two
        await _answered_by(store.two, seen)
    until.set()
    await asyncio.gather(*clients)
    assert not failures
    assert all(len(set(versions)) == 1 for versions in seen), "no answer mixes two versions"
    assert {store.one, store.two} < {versions[0] for versions in seen} and len(seen) > CLIENTS


def version(url):
    answer = httpx.post(f"{url}/v1/completions", json={"prompt": "x = ", "max_tokens": 1}, timeout=60)
    assert answer.json()["model"] == "tiny", "whatever the folder of the version is called"
    return answer.json()["midfill"]["model_version"]


@pytest.mark.timeout(300)
def test_a_restart_serves_what_was_active(start_service, store):
    url, process = start_service()
    base = version(url)
    assert httpx.post(f"{url}/admin/models/{store.two}/activate", timeout=60).status_code == 200
    process.signal(signal.SIGTERM)
    assert process.exit_code() == 0
    url, process = start_service()
    assert version(url) == store.two
    assert httpx.post(f"{url}/admin/models/rollback", timeout=60).json()["active"] == base


def test_strangers_do_not_administrate(start_process):
    url = start_process("--port", "0", "--host", "0.0.0.0", "--allow-anonymous").ready().replace("0.0.0.0", "127.0.0.1")
    assert httpx.get(f"{url}/admin/models", timeout=60).status_code == 403
    assert httpx.post(f"{url}/admin/models/rollback", timeout=60).status_code == 403

"""Drills on real processes: swap, refusal, rollback, restart."""

import asyncio
import json
import signal
import threading

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


async def test_swap_under_load_loses_nothing_and_mixes_nothing(start_service, store):
    service = start_service("--max-queue", "200")
    until, seen, failures = asyncio.Event(), [], []
    clients = [
        asyncio.create_task(_keep_asking(service.url, until, seen, failures, number)) for number in range(CLIENTS)
    ]
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as operator:
        for version in (store.one, store.two, store.one):
            await asyncio.sleep(0.5)
            answer = await operator.post(f"/admin/models/{version}/activate")
            assert answer.status_code == 200 and answer.json()["active"] == version, answer.text
        await asyncio.sleep(0.5)
        assert (await operator.post("/admin/models/rollback")).json()["active"] == store.two
        await asyncio.sleep(0.5)
    until.set()
    await asyncio.gather(*clients)
    assert not failures
    assert all(len(set(versions)) == 1 for versions in seen), "no answer mixes two versions"
    assert {store.one, store.two} < {versions[0] for versions in seen} and len(seen) > CLIENTS


def test_the_operator_sees_swaps_and_goes_back(start_service, store):
    service = start_service()
    base = service.version()
    answer = service.activate(store.one)
    assert answer.status_code == 200 and answer.json()["before"] == base
    assert service.version() == store.one
    listing = service.http.get("/admin/models").json()
    roles = {entry["version"]: entry["role"] for entry in listing["models"]}
    assert roles == {"base": "previous", store.one: "active", store.two: None}
    assert listing["active"] == store.one and listing["model"] == "tiny"
    assert service.http.get("/v1/models").json()["data"][0]["version"] == store.one
    assert f'midfill_model_info{{name="tiny",version="{store.one}"}} 1.0' in service.http.get("/metrics").text
    assert service.http.post("/admin/models/rollback").json()["active"] == base
    assert service.http.post("/admin/models/rollback").json()["active"] == store.one
    unknown = service.activate("0123456789ab")
    assert unknown.status_code == 404 and "GET /admin/models" in unknown.json()["error"]["message"]


def test_a_restart_serves_what_was_active(start_service, store):
    service = start_service()
    base = service.version()
    assert service.activate(store.two).status_code == 200
    service.process.signal(signal.SIGTERM)
    assert service.process.exit_code() == 0
    again = start_service()
    assert again.version() == store.two
    assert again.http.post("/admin/models/rollback").json()["active"] == base
    again.process.signal(signal.SIGKILL)
    (store.path / "rollout.json").write_text('{"active": "gone", "previous": "also gone"}')
    assert start_service().version() == base, "a version that is gone keeps nobody from starting"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: (path / "model.safetensors").write_bytes(b"half"), "damaged or half copied"),
        (lambda path: (path / "tokenizer.tiktoken").unlink(), "cannot be read"),
        (lambda path: (path / "card.md").open("a").write("x"), "damaged or half copied"),
    ],
)
def test_a_damaged_version_is_refused_and_the_old_one_serves_on(start_service, store, damage, says):
    service = start_service()
    base = service.version()
    damage(store.path / "one")
    refused = service.activate(store.one)
    assert refused.status_code == 409 and refused.json()["error"]["code"] == "model_refused"
    assert says in refused.json()["error"]["message"]
    assert service.version() == base
    assert 'midfill_model_activations_total{result="refused"} 1.0' in service.http.get("/metrics").text
    assert service.activate(store.two).status_code == 200


def test_a_model_that_writes_something_else_than_when_published_is_refused(start_service, store):
    golden = store.path / "one" / "golden.json"
    cases = json.loads(golden.read_text())
    golden.write_text(json.dumps([case | {"text": "nothing like it"} for case in cases]))
    from inference_service.model import directory

    directory.write_manifest(golden.parent)
    version = directory.load(golden.parent).version
    service = start_service()
    base = service.version()
    refused = service.activate(version)
    assert refused.status_code == 409 and "golden self-test" in refused.json()["error"]["message"]
    assert service.version() == base


def test_of_two_activations_at_once_one_wins(start_service, store):
    service = start_service()
    answers = {}

    def activate(version):
        answers[version] = httpx.post(f"{service.url}/admin/models/{version}/activate", timeout=60)

    threads = [threading.Thread(target=activate, args=(version,)) for version in (store.one, store.two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers.values()) == [200, 409]
    winner = next(version for version, answer in answers.items() if answer.status_code == 200)
    assert service.version() == winner


def test_a_full_disk_leaves_the_old_version_serving(start_service, store):

    service = start_service()
    base = service.version()
    (store.path / "rollout.json").mkdir()
    (store.path / "rollout.json" / "x").touch()  # the state cannot take its place
    failed = service.activate(store.one)
    assert failed.status_code == 503 and failed.headers["retry-after"]
    assert "keep the roll-out's state" in failed.json()["error"]["message"]
    assert service.version() == base


def test_without_a_store_nothing_can_be_changed(start_process):
    url = start_process("--port", "0").ready()
    answer = httpx.post(f"{url}/admin/models/abc/activate")
    assert answer.status_code == 409 and "--models" in answer.json()["error"]["message"]
    assert [entry["version"] for entry in httpx.get(f"{url}/admin/models").json()["models"]] == ["base"]


def test_strangers_do_not_administrate(start_process):
    url = start_process("--port", "0", "--host", "0.0.0.0", "--allow-anonymous").ready().replace("0.0.0.0", "127.0.0.1")
    assert httpx.get(f"{url}/admin/models").status_code == 403
    assert httpx.post(f"{url}/admin/models/rollback").status_code == 403

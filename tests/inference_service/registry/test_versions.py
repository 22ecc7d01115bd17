"""Activation, refusal and rollback, with real models and a real store."""

import asyncio
import errno
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest
import torch

from inference_service.backends.local import LocalBackend
from inference_service.model import directory
from inference_service.model.gpt import GPT
from inference_service.model.location import BadModel
from inference_service.registry.errors import ModelRefused, RolloutFault
from inference_service.registry.store import ModelStore
from inference_service.settings import SettingsError


async def test_the_operator_sees_swaps_and_goes_back(here, store):
    service = await here()
    base = await service.version()
    answer = await service.activate(store.one)
    assert answer.status_code == 200 and answer.json()["before"] == base
    assert await service.version() == store.one
    listing = (await service.http.get("/admin/models")).json()
    roles = {entry["version"]: entry["role"] for entry in listing["models"]}
    assert roles == {"base": "previous", store.one: "active", store.two: None}
    assert listing["active"] == store.one and listing["model"] == "tiny"
    assert (await service.http.get("/v1/models")).json()["data"][0]["version"] == store.one
    assert f'midfill_model_info{{name="tiny",version="{store.one}"}} 1.0' in await service.metrics()
    assert (await service.http.post("/admin/models/rollback")).json()["active"] == base
    assert (await service.http.post("/admin/models/rollback")).json()["active"] == store.one
    unknown = await service.activate("0123456789ab")
    assert unknown.status_code == 404 and "GET /admin/models" in unknown.json()["error"]["message"]


async def test_an_answer_that_has_begun_ends_on_its_version(here, store):
    service = await here(max_tokens_limit=100_000)
    base = await service.version()
    body = {"prompt": "x", "max_tokens": 400, "temperature": 2}
    running = asyncio.create_task(service.http.post("/v1/completions", json=body))
    while not service.app.state.service.backend.gauges()["num_requests_running"]:
        await asyncio.sleep(0.001)
    for version in (store.one, store.two):  # after the second one the first model is not even the previous one
        assert (await service.activate(version)).status_code == 200
    answer = (await running).json()
    assert answer["midfill"]["model_version"] == base and answer["choices"][0]["finish_reason"] in ("stop", "length")
    assert await service.version() == store.two


async def test_a_damaged_version_is_refused_and_the_old_one_serves_on(here, store):
    service = await here()
    base = await service.version()
    (store.path / "one" / "model.safetensors").write_bytes(b"half")
    refused = await service.activate(store.one)
    assert refused.status_code == 409 and refused.json()["error"]["code"] == "model_refused"
    assert "damaged or half copied" in refused.json()["error"]["message"]
    assert await service.version() == base
    assert 'midfill_model_activations_total{result="refused"} 1.0' in await service.metrics()
    assert (await service.activate(store.two)).status_code == 200


async def test_a_model_that_writes_something_else_than_when_published_is_refused(here, store):
    golden = store.path / "one" / "golden.json"
    cases = json.loads(golden.read_text())
    golden.write_text(json.dumps([case | {"text": "nothing like it"} for case in cases]))
    directory.write_manifest(golden.parent)
    service = await here()
    base = await service.version()
    refused = await service.activate(directory.load(golden.parent).version)
    assert refused.status_code == 409 and "golden self-test" in refused.json()["error"]["message"]
    assert await service.version() == base


def write_nan_model(path, like):
    loaded = directory.load(like)
    model = GPT(loaded.config)
    with torch.no_grad():
        for weights in model.parameters():
            weights.fill_(float("nan"))
    directory.write(path, model, loaded.tokenizer, [], "# nothing but NaN\n", {})


async def test_a_model_that_cannot_complete_anything_is_refused_though_it_has_no_golden_texts(
    here, store, tiny_model_dir
):
    write_nan_model(store.path / "nan", tiny_model_dir)
    service = await here()
    base = await service.version()
    refused = await service.activate(directory.load(store.path / "nan").version)
    assert refused.status_code == 409 and "cannot complete anything" in refused.json()["error"]["message"]
    assert await service.version() == base


async def test_a_first_model_that_cannot_complete_anything_is_never_ready(tiny_model_dir, tmp_path):
    write_nan_model(tmp_path / "nan", tiny_model_dir)
    with pytest.raises(BadModel, match="cannot complete anything"):
        await LocalBackend(str(tmp_path / "nan"), device="cpu", threads=1).start()


async def test_of_two_activations_at_once_one_wins(here, store):
    service = await here()
    answers = await asyncio.gather(*map(service.activate, (store.one, store.two)))
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    (winner,) = (answer.json()["active"] for answer in answers if answer.status_code == 200)
    assert await service.version() == winner


async def test_replicas_that_are_told_different_things_at_once_end_up_with_one(here, store, monkeypatch):
    monkeypatch.setattr("inference_service.registry.deployments._FOLLOW_S", 0.05)
    replicas = [await here(), await here()]
    answers = await asyncio.gather(replicas[0].activate(store.one), replicas[1].activate(store.two))
    assert [answer.status_code for answer in answers] == [200, 200]
    kept = json.loads((store.path / "rollout.json").read_text())["active"]
    async with asyncio.timeout(60):
        while {await replica.version() for replica in replicas} != {kept}:
            await asyncio.sleep(0.02)


async def test_a_replica_whose_storage_failed_for_a_moment_follows_later(here, store, monkeypatch):
    monkeypatch.setattr("inference_service.registry.deployments._FOLLOW_S", 0.05)
    monkeypatch.setattr("inference_service.registry.deployments._AGAIN_S", 0.5)
    one, other = await here(), await here()
    faults = []

    def away(version):
        faults.append(version)
        raise RolloutFault("cannot list the model store: Connection reset by peer")

    with monkeypatch.context() as failing:
        failing.setattr(other.app.state.service.backend._source._store, "fetch", away)
        assert (await one.activate(store.one)).status_code == 200
        async with asyncio.timeout(60):
            while not faults:
                await asyncio.sleep(0.02)
        assert await other.version() != store.one
    async with asyncio.timeout(60):
        while await other.version() != store.one:
            await asyncio.sleep(0.05)


async def test_a_state_that_cannot_be_kept_leaves_the_old_version_serving(here, store):
    service = await here()
    base = await service.version()
    (store.path / "rollout.json" / "in the way").mkdir(parents=True)
    failed = await service.activate(store.one)
    assert failed.status_code == 503 and failed.headers["retry-after"]
    assert "keep the roll-out's state" in failed.json()["error"]["message"]
    assert await service.version() == base


async def test_a_state_that_names_what_is_gone_keeps_nobody_from_starting(here, store):
    (store.path / "rollout.json").write_text('{"active": "gone", "previous": "also gone"}')
    assert await (await here()).version()
    (store.path / "rollout.json").write_text("half a sta")
    assert await (await here()).version()


async def test_without_a_store_nothing_can_be_changed(serve):
    api = await serve()
    answer = await api.client.post("/admin/models/abc/activate")
    assert answer.status_code == 409 and "--models" in answer.json()["error"]["message"]
    models = (await api.client.get("/admin/models")).json()["models"]
    assert [entry["version"] for entry in models] == ["base"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: (path / "tokenizer.tiktoken").unlink(), "cannot be read"),
        (lambda path: (path / "card.md").open("a").write("x"), "damaged or half copied"),
    ],
)
def test_every_file_is_checked(opened, store, damage, says):
    damage(store.path / "one")
    with pytest.raises(ModelRefused, match=says):
        opened.fetch(store.one)
    assert opened.fetch(store.two) == store.path / "two"


def test_what_is_no_version_is_told_in_the_list(opened, store):
    (store.path / "half").mkdir()
    (store.path / "evil").mkdir()
    (store.path / "evil" / "manifest.json").write_text(json.dumps({"../../x": "00"}))
    problems = {model.folder.rsplit("/", 1)[-1]: model.problem for model in opened.list()}
    assert problems["one"] is None and "half copied" in problems["half"] and "file names" in problems["evil"]


@pytest.fixture
def remote(store, tmp_path):
    """The same store in fsspec's memory, as far away as any object storage for the code that reads it."""
    memory = fsspec.filesystem("memory")
    url = f"memory://{tmp_path.name}"
    memory.put(str(store.path), f"/{tmp_path.name}", recursive=True)
    yield memory, ModelStore(url, tmp_path / "cache"), f"/{tmp_path.name}"
    memory.rm(f"/{tmp_path.name}", recursive=True)


def test_versions_from_far_away_are_copied_once_and_checked(remote, store, tmp_path):
    memory, far, root = remote
    path = far.fetch(store.one)
    assert path == tmp_path / "cache" / store.one and directory.load(path).version == store.one
    memory.rm(f"{root}/one/model.safetensors")
    assert far.fetch(store.one) == path, "what is there and whole is used"
    (path / "config.json").write_text("damaged here")
    with pytest.raises(ModelRefused, match="incomplete"):
        far.fetch(store.one)
    assert [item.name for item in (tmp_path / "cache").iterdir()] == [], "nothing half copied is left"
    far.write_state({"active": store.two})
    assert far.read_state() == {"active": store.two}


def test_two_processes_that_copy_the_same_version_at_once_both_have_it(remote, store, tmp_path, monkeypatch):
    memory, far, _ = remote
    together, one_reads, get_file = threading.Barrier(2), threading.Lock(), type(memory).get_file

    def side_by_side(*args, **more):
        together.wait(60)
        with one_reads:  # whoever opens a file in memory shares its position with all others
            return get_file(*args, **more)

    monkeypatch.setattr(type(memory), "get_file", side_by_side)
    with ThreadPoolExecutor(2) as processes:
        paths = list(processes.map(far.fetch, [store.one, store.one]))
    assert paths == 2 * [tmp_path / "cache" / store.one]
    assert [item.name for item in (tmp_path / "cache").iterdir()] == [store.one]


def test_a_folder_may_be_named_by_its_url(store, tmp_path):
    """As a mounted volume is: its versions are used where they lie."""
    volume = ModelStore(f"file://{store.path}", tmp_path / "cache")
    assert volume.fetch(store.one) == store.path / "one" and not (tmp_path / "cache").exists()
    volume.write_state({"active": store.one})
    assert volume.read_state() == ModelStore(str(store.path), tmp_path / "cache").read_state() == {"active": store.one}


def test_a_full_disk_is_told_and_leaves_nothing(remote, store, tmp_path, monkeypatch):
    memory, far, _ = remote

    def full(*_args, **_more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(memory), "get_file", full)
    with pytest.raises(RolloutFault, match="the disk is full"):
        far.fetch(store.one)
    assert [item.name for item in (tmp_path / "cache").iterdir()] == []


def test_an_address_that_cannot_be_opened_is_told(tmp_path):
    with pytest.raises(SettingsError, match="cannot open the model store nosuch://x"):
        ModelStore("nosuch://x", tmp_path)

"""Events from the route to the database and the report; through faults of all kinds."""

import asyncio
import signal
import time

import httpx
import pytest
import sqlalchemy as sa

from inference_service.__main__ import main
from inference_service.events import shipper as shipper_module
from inference_service.events.records import Event
from inference_service.storage import location
from inference_service.storage.database import Database
from inference_service.storage.schema import completion_texts, completions, events

LANGUAGE = {"prompt": "x", "language": "python"}


@pytest.fixture
def migrated(database_url):
    assert main(["database", "upgrade", "--database", database_url]) == 0
    return database_url


@pytest.fixture
def on_postgres(postgres):
    url = postgres.new_database()
    assert main(["database", "upgrade", "--database", url]) == 0
    return url


def rows(url, table):
    engine = sa.create_engine(location.checked(url))
    with engine.connect() as connection:
        found = connection.execute(sa.select(table)).mappings().all()
    engine.dispose()
    return found


async def until_kept(url, count):
    for _ in range(400):
        if len(found := await asyncio.to_thread(rows, url, events)) >= count:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("the events did not reach the database")


async def tell(api, completion, event, **more):
    body = {"completion_id": completion, "event": event, **more}
    return await api.client.post("/v1/events", json=body)


def table_of(capsys, url, *flags):
    capsys.readouterr()
    assert main(["events", "report", "--database", url, *flags]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


async def test_events_join_their_completions_and_are_reported(serve, migrated, tmp_path, capsys):
    assert table_of(capsys, migrated) == [["no", "events", "in", "the", "last", "7", "days"]]
    api = await serve(database=migrated, spool_dir=str(tmp_path / "spool"))
    made = []
    for body in (LANGUAGE, LANGUAGE, LANGUAGE, {"prompt": "x", "path": "a/b.rs"}):
        made.append((await api.client.post("/v1/completions", json=body)).json()["id"])
    for completion, told in (
        (made[0], [("shown", {}), ("accepted", {})]),
        (
            made[1],
            [
                ("shown", {}),
                ("partially_accepted", {"accepted_chars": 2}),
                ("partially_accepted", {"accepted_chars": 5}),
            ],
        ),
        (made[2], [("shown", {}), ("dismissed", {})]),
        (made[3], [("accepted", {"accepted_chars": 4}), ("persisted", {})]),
        ("cmpl-of-nobody", [("shown", {})]),
    ):
        for event, more in told:
            assert (await tell(api, completion, event, **more)).status_code == 202
    await until_kept(migrated, 10)
    kept = {row["id"]: row for row in rows(migrated, completions)}
    assert set(made) <= set(kept)
    first = kept[made[0]]
    assert (first["model_version"], first["language"], first["finish_reason"]) == ("0123abcd", "python", "stop")
    assert (first["chars"], first["lines"], first["completion_tokens"], first["prompt_tokens"]) == (9, 1, 3, 10)
    assert table_of(capsys, migrated) == [
        ["language", "version", "arm", "shown", "accepted", "partly", "dismissed", "kept", "rate", "chars"],
        ["python", "0123abcd", "-", "3", "1", "1", "1", "0", "66.7%", "14"],
        ["rust", "0123abcd", "-", "1", "1", "0", "0", "1", "100.0%", "4"],
        ["-", "unknown", "-", "1", "0", "0", "0", "0", "0.0%", "0"],
    ]


async def test_an_event_does_not_join_another_tenants_completion(serve, migrated, tmp_path, capsys):
    keys = {}
    for owner in ("alice", "bob"):
        capsys.readouterr()
        assert main(["keys", "create", "--owner", owner, "--database", migrated]) == 0
        keys[owner] = {"X-API-Key": capsys.readouterr().out.strip()}
    api = await serve(database=migrated, spool_dir=str(tmp_path / "spool"))
    completion = (await api.client.post("/v1/completions", json=LANGUAGE, headers=keys["alice"])).json()["id"]
    body = {"completion_id": completion, "event": "accepted"}
    assert (await api.client.post("/v1/events", json=body, headers=keys["bob"])).status_code == 202
    await until_kept(migrated, 1)
    assert [row[1] for row in table_of(capsys, migrated)[1:]] == ["unknown"]


async def test_an_event_that_reaches_another_replica_is_counted_by_its_completion(serve, on_postgres, tmp_path):
    one, other = [await serve(database=on_postgres, spool_dir=str(tmp_path / name)) for name in "ab"]
    completion = (await one.client.post("/v1/completions", json=LANGUAGE)).json()["id"]
    while not rows(on_postgres, completions):
        await asyncio.sleep(0.05)
    await tell(other, completion, "accepted")
    labels = 'language="python",model_version="0123abcd"'
    wanted = f'midfill_completion_events_total{{event="accepted",{labels}}} 1.0'
    while wanted not in (page := other.service.metrics.render().decode()):
        await asyncio.sleep(0.05)
    assert f"midfill_accepted_chars_total{{{labels}}} 9.0" in page


async def test_without_the_database_events_wait_on_disk(serve, on_postgres, postgres, tmp_path):
    api = await serve(database=on_postgres, spool_dir=str(tmp_path / "spool"))
    await tell(api, "before", "shown")
    await until_kept(on_postgres, 1)
    postgres.kill()
    try:
        for number in range(20):
            assert (await tell(api, f"during-{number}", "shown")).status_code == 202
            assert (await api.client.post("/complete", json={"code": "x"})).status_code == 200
        while "events" not in (await api.client.get("/readyz")).json().get("degraded", {}):
            await asyncio.sleep(0.05)
        ready = await api.client.get("/readyz")
        assert ready.status_code == 200 and "kept on disk" in ready.json()["degraded"]["events"]
        page = api.service.metrics.render().decode()
        assert 'midfill_dependency_up{dependency="events"} 0.0' in page and "midfill_event_spool_bytes 0.0" not in page
    finally:
        postgres.start()
    await until_kept(on_postgres, 21)
    assert len(rows(on_postgres, completions)) == 20
    while (await api.client.get("/readyz")).json() != {"status": "ready"}:
        await asyncio.sleep(0.05)


async def test_a_database_that_is_back_is_noticed_without_an_event(serve, on_postgres, postgres, tmp_path, monkeypatch):
    monkeypatch.setattr(shipper_module, "_CHORES_S", 0.2)
    api = await serve(database=on_postgres, spool_dir=str(tmp_path / "spool"))
    postgres.kill()
    try:
        while "events" not in (await api.client.get("/readyz")).json().get("degraded", {}):
            await asyncio.sleep(0.05)
    finally:
        postgres.start()
    async with asyncio.timeout(30):
        while (await api.client.get("/readyz")).json() != {"status": "ready"}:
            await asyncio.sleep(0.05)


async def test_a_database_that_hangs_delays_nobody(serve, on_postgres, tmp_path):
    api = await serve(database=on_postgres, spool_dir=str(tmp_path / "spool"))
    engine = sa.create_engine(location.checked(on_postgres))
    with engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE events, completions IN ACCESS EXCLUSIVE MODE"))
        await tell(api, "first", "shown")
        await asyncio.sleep(1)
        for number in range(30):
            assert (await tell(api, f"during-{number}", "shown")).status_code == 202
            assert (await api.client.post("/complete", json={"code": "x"})).status_code == 200
    engine.dispose()
    assert len(await until_kept(on_postgres, 31)) == 31


def test_kill_9_loses_no_accepted_event(start_process, on_postgres, postgres, tmp_path):
    flags = ("--port", "0", "--database", on_postgres, "--spool-dir", str(tmp_path / "spool"))
    first = start_process(*flags)
    url = first.ready()
    postgres.kill()
    try:
        accepted = []
        for number in range(20):
            body = {"completion_id": f"cmpl-{number}", "event": "shown"}
            assert httpx.post(f"{url}/v1/events", json=body, timeout=60).status_code == 202
            accepted.append(f"cmpl-{number}")
        first.signal(signal.SIGKILL)
        first.process.wait()
    finally:
        postgres.start()
    second = start_process(*flags)
    second.ready()
    end = time.monotonic() + 20
    while len(found := rows(on_postgres, events)) < 20:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert sorted(row["completion_id"] for row in found) == sorted(accepted)
    second.signal(signal.SIGTERM)
    assert second.exit_code() == 0
    assert list((tmp_path / "spool").iterdir()) == []
    assert "secret-word" not in first.stderr + second.stderr


def test_a_graceful_end_leaves_everything_in_the_database(start_process, tmp_path):
    database = f"sqlite:///{tmp_path}/midfill.sqlite"
    process = start_process("--port", "0", "--database", database)
    url = process.ready()
    for number in range(5):
        httpx.post(f"{url}/v1/events", json={"completion_id": f"cmpl-{number}", "event": "shown"}, timeout=60)
    process.signal(signal.SIGTERM)
    assert process.exit_code() == 0
    assert len(rows(database, events)) == 5


def test_the_same_event_twice_is_one(migrated, tmp_path):
    from dataclasses import asdict

    from inference_service.events.archive import Archive

    archive = Archive(Database(location.checked(migrated)))
    one, other = asdict(Event("a", "", "", "shown", None)), asdict(Event("b", "", "", "shown", None))
    bad = {**asdict(Event("c", "", "", "shown", None)), "event": None}
    assert archive.store([("events", one)]) == 0
    assert archive.store([("events", one), ("events", bad), ("events", other)]) == 1
    assert [row["completion_id"] for row in rows(migrated, events)] == ["a", "b"]


async def test_code_is_kept_only_where_the_operator_says_so(serve, tmp_path):
    kept = {}
    for name, more in (("off", {}), ("on", {"store_code": True})):
        database = f"sqlite:///{tmp_path}/{name}.sqlite"
        api = await serve(database=database, **more)
        body = {
            "prompt": "canary_prompt",
            "suffix": "canary_suffix",
            "path": "canary_path.py",
            "context": [{"path": "canary_context", "text": "canary_text"}],
        }
        completion = (await api.client.post("/v1/completions", json=body)).json()["id"]
        await tell(api, completion, "accepted", text="canary_event")
        await until_kept(database, 1)
        kept[name] = rows(database, completion_texts)
        everything = str(rows(database, completions)) + str(rows(database, events))
        assert "canary" not in everything and " w0" not in everything
        assert (await api.client.get("/info")).json()["settings"]["store_code"] is (name == "on")
    assert kept["off"] == []
    for path in tmp_path.glob("off.sqlite*"):
        if path.is_file():
            assert b"canary" not in path.read_bytes()
    (row,) = kept["on"]
    assert (row["prompt"], row["suffix"], row["text"]) == ("canary_prompt", "canary_suffix", " w0 w1 w2")


async def test_a_full_spool_is_503_and_completions_go_on(serve, tmp_path, on_postgres, postgres):
    api = await serve(database=on_postgres, spool_dir=str(tmp_path / "spool"), spool_max_bytes=1 << 16)
    postgres.kill()
    try:
        name = "x" * 128
        accepted = 0
        while (answer := await tell(api, name, "shown")).status_code == 202:
            answers = await asyncio.gather(*(tell(api, name, "shown") for _ in range(50)))
            accepted += 1 + sum(answer.status_code == 202 for answer in answers)
        assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
        assert answer.json()["error"]["code"] == "events_not_kept"
        assert (await api.client.post("/complete", json={"code": "x"})).status_code == 200
        assert "midfill_completion_records_dropped_total 1.0" in api.service.metrics.render().decode()
    finally:
        postgres.start()
    assert len(await until_kept(on_postgres, accepted)) >= accepted


async def test_what_is_old_goes_but_not_by_a_clock_that_jumped(serve, tmp_path, monkeypatch):
    database = f"sqlite:///{tmp_path}/midfill.sqlite"
    Database(database).upgrade()
    engine = sa.create_engine(database)
    now = time.time()
    with engine.begin() as connection:
        for name, days in (("old", 8), ("young", 6)):
            row = {"id": name, "completion_id": name, "tenant": "", "key_id": "", "event": "shown"}
            connection.execute(events.insert().values(**row, created_at=now - days * 86400))
    engine.dispose()
    monkeypatch.setattr(shipper_module, "_CHORES_S", 0.05)
    monkeypatch.setattr(shipper_module, "_PRUNE_S", 2.0)
    await serve(database=database, events_retention_days=7)
    while [row["id"] for row in rows(database, events)] != ["young"]:
        await asyncio.sleep(0.05)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 30 * 86400)
    await asyncio.sleep(1.8)
    monkeypatch.setattr(time, "time", real)
    await asyncio.sleep(3)
    assert [row["id"] for row in rows(database, events)] == ["young"]


def test_a_plain_start_keeps_no_file(start_process, tmp_path):
    process = start_process("--port", "0", env={"XDG_DATA_HOME": str(tmp_path / "data"), "HOME": str(tmp_path)})
    url = process.ready()
    assert httpx.post(f"{url}/complete", json={"code": "x"}, timeout=60).status_code == 200
    assert httpx.post(f"{url}/v1/events", json={"completion_id": "x", "event": "shown"}, timeout=60).status_code == 202
    process.signal(signal.SIGTERM)
    assert process.exit_code() == 0
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--store-code"], "store_code needs a database"),
        (["--database", "nonsense"], "database must be none, sqlite:///PATH"),
        (["--database", "sqlite:////dev/null/x"], "cannot use the database file /dev/null/x"),
        (["--database", "sqlite:////tmp", "--port", "0"], "cannot use the database file /tmp"),
    ],
)
def test_a_place_that_cannot_be_used_is_one_sentence(flags, says, capsys, logging_restored):
    assert main(["--port", "0", *flags]) == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1

"""Keys from the command line to the running service: who gets in, for what, for how long."""

import asyncio
import hashlib
import time

import pytest

from inference_service.__main__ import main
from inference_service.guard import key_ring
from inference_service.guard import keys as key_module
from inference_service.storage import database as database_module


@pytest.fixture
def database_url(database_url):
    assert main(["database", "upgrade", "--database", database_url]) == 0
    return database_url


@pytest.fixture
def make_key(database_url, capsys):
    """`make_key("--scopes", "events")`: the plain key."""

    def make(*flags, owner="alice"):
        capsys.readouterr()
        assert main(["keys", "create", "--owner", owner, "--database", database_url, *flags]) == 0
        return capsys.readouterr().out.strip()

    return make


@pytest.fixture(autouse=True)
def patient_with_the_database(monkeypatch):
    """On a busy machine a connection may take longer than a service waits for one."""
    monkeypatch.setattr(database_module, "_CONNECT_S", 60)
    monkeypatch.setattr(database_module, "_STATEMENT_MS", 60_000)
    monkeypatch.setattr(key_ring, "_SLOW_S", 60.0)


def as_(key):
    return {"Authorization": f"Bearer {key}"}


async def complete(api, key):
    return await api.client.post("/complete", json={"code": "x"}, headers=as_(key) if key else {})


async def until(api, key, status, within_s=60.0):
    end = time.monotonic() + within_s
    while (answer := await complete(api, key)).status_code != status:
        assert time.monotonic() < end, answer.text
        await asyncio.sleep(0.05)
    return answer


async def test_a_key_is_made_used_listed_and_revoked(serve, make_key, database_url, capsys):
    key = make_key("--expires", "90d")
    api = await serve(database=database_url)
    assert (await complete(api, key)).status_code == 200
    assert (await complete(api, None)).status_code == 401
    assert (await complete(api, key[:-1] + ("0" if key[-1] != "0" else "1"))).status_code == 401

    assert main(["keys", "list", "--database", database_url]) == 0
    listed = capsys.readouterr().out
    key_id = key.split("_")[1]
    assert key_id in listed and "alice" in listed and "active" in listed and key.split("_")[2] not in listed

    assert main(["keys", "revoke", key_id, "--database", database_url]) == 0
    await until(api, key, 401)
    assert main(["keys", "revoke", key_id, "--database", database_url]) == 1
    assert "is revoked; create a new one" in capsys.readouterr().err
    assert (await complete(api, None)).status_code == 401, "that the last key has ended lets nobody in"


async def test_a_key_made_later_works_and_closes_a_service_that_was_open(serve, make_key, database_url):
    api = await serve(database=database_url)
    assert (await complete(api, None)).status_code == 200
    key = make_key()
    await until(api, key, 200)
    await until(api, None, 401)


async def test_rotation_overlaps_as_long_as_wanted(serve, make_key, database_url, capsys):
    old = make_key()
    api = await serve(database=database_url)
    key_id = old.split("_")[1]
    assert main(["keys", "rotate", key_id, "--overlap", "2s", "--database", database_url]) == 0
    new = capsys.readouterr().out.strip()
    assert new.startswith(f"mf_{key_id}_") and new != old
    await until(api, new, 200)
    await until(api, old, 401)
    assert (await complete(api, new)).status_code == 200
    assert main(["keys", "rotate", key_id, "--overlap", "0s", "--database", database_url]) == 0
    newest = capsys.readouterr().out.strip()
    await until(api, newest, 200)
    await until(api, new, 401)


async def test_expiry_follows_the_clock(serve, make_key, database_url, monkeypatch):
    key = make_key("--expires", "1h")
    api = await serve(database=database_url)
    assert (await complete(api, key)).status_code == 200
    now = time.time()
    monkeypatch.setattr("inference_service.guard.key_ring.time.time", lambda: now + 3601)
    assert (await complete(api, key)).status_code == 401


ROUTES = {
    "complete": [
        ("POST", "/v1/completions"),
        ("POST", "/complete"),
        ("POST", "/complete/batch"),
        ("DELETE", "/v1/completions/x"),
    ],
    "events": [("POST", "/v1/events")],
    "metrics": [("GET", "/metrics")],
    "admin": [("GET", "/admin/models"), ("POST", "/admin/models/rollback"), ("GET", "/admin")],
    "": [("GET", "/v1/models"), ("GET", "/info")],
}


async def test_scopes_open_their_routes_and_no_other(serve, make_key, database_url):
    made = {scope: make_key("--scopes", scope) for scope in ("complete", "events", "metrics", "admin")}
    api = await serve(database=database_url)
    for wanted, routes in ROUTES.items():
        for method, path in routes:
            assert (await api.client.request(method, path)).status_code == 401
            for scope, key in made.items():
                answer = await api.client.request(method, path, headers=as_(key), json={})
                if wanted in ("", scope):
                    assert answer.status_code not in (401, 403), (method, path, scope)
                else:
                    assert answer.status_code == 403, (method, path, scope)
                    assert answer.json()["error"]["code"] == "missing_scope"
                    assert answer.json()["error"]["message"].endswith(f"{wanted!r}")


async def test_keys_of_one_tenant_share_caches_and_no_sessions(serve, make_key, database_url):
    first, second = make_key("--tenant", "team"), make_key("--tenant", "team")
    api = await serve(database=database_url)
    for key in (first, second):
        await api.client.post("/v1/completions", json={"prompt": "x", "session": "doc"}, headers=as_(key))
    one, two = api.backend.requests
    assert one.tenant == two.tenant == "team" and one.session != two.session


async def test_everybody_may_not_change_the_model(serve):
    open_to_all = await serve(host="0.0.0.0", allow_anonymous=True)
    assert (await complete(open_to_all, None)).status_code == 200
    assert (await open_to_all.client.post("/admin/models/rollback")).status_code == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1.evil.example", "null", "http://["])
async def test_a_web_page_does_not_use_the_open_service_of_its_readers_machine(serve, make_key, database_url, origin):
    open_here = await serve()
    for method, path in (("POST", "/complete"), ("POST", "/admin/models/rollback"), ("GET", "/info")):
        answer = await open_here.client.request(method, path, json={"code": "x"}, headers={"Origin": origin})
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "foreign_origin"
    for local in ("http://localhost:8888", "http://127.0.0.1:3000", "http://[::1]:1"):
        headers = {"Origin": local}
        assert (await open_here.client.post("/complete", json={"code": "x"}, headers=headers)).status_code == 200
    with_key = as_(make_key()) | {"Origin": origin}
    guarded = await serve(database=database_url)
    assert (await guarded.client.post("/complete", json={"code": "x"}, headers=with_key)).status_code == 200


async def test_on_another_address_a_database_without_keys_lets_nobody_in(serve, database_url):
    api = await serve(host="0.0.0.0", database=database_url)
    assert (await complete(api, None)).status_code == 401


async def test_the_file_of_digests_works_beside_the_database(serve, make_key, database_url, tmp_path):
    file = tmp_path / "keys"
    file.write_text(hashlib.sha256(b"from-the-file").hexdigest())
    key = make_key()
    api = await serve(database=database_url, api_keys_file=str(file))
    for known in (key, "from-the-file"):
        assert (await complete(api, known)).status_code == 200
    assert (await complete(api, "neither")).status_code == 401
    assert (await api.client.get("/admin/x", headers=as_("from-the-file"))).status_code == 403


async def test_without_the_database_the_known_keys_go_on_and_a_new_process_lets_nobody_in(serve, postgres, capsys):
    url = postgres.new_database()
    assert main(["database", "upgrade", "--database", url]) == 0
    capsys.readouterr()
    assert main(["keys", "create", "--owner", "alice", "--database", url]) == 0
    key = capsys.readouterr().out.strip()
    api = await serve(database=url)
    postgres.kill()
    try:
        while "keys" not in (await api.client.get("/readyz")).json().get("degraded", {}):
            await asyncio.sleep(0.05)
        ready = await api.client.get("/readyz")
        assert ready.status_code == 200
        assert "the keys known last stay in use" in ready.json()["degraded"]["keys"]
        assert "secret-word" not in ready.text
        assert (await complete(api, key)).status_code == 200
        assert (await complete(api, None)).status_code == 401
        page = (await api.client.get("/metrics", headers=as_(key))).status_code
        assert page == 403
        assert 'midfill_dependency_up{dependency="keys"} 0.0' in api.service.metrics.render().decode()

        fresh = await serve(database=url)
        refused = await complete(fresh, key)
        assert refused.status_code == 503 and refused.json()["error"]["code"] == "keys_unknown"
        assert refused.headers["retry-after"] == "2"
    finally:
        postgres.start()
    await until(fresh, key, 200, within_s=60.0)
    while (await api.client.get("/readyz")).json() != {"status": "ready"}:
        await asyncio.sleep(0.05)


async def test_keys_reach_neither_the_database_nor_logs(serve, make_key, database_url, postgres, tmp_path, caplog):
    key = make_key()
    secret = key.split("_")[2]
    with caplog.at_level("DEBUG"):
        api = await serve(database=database_url)
        await complete(api, key)
        await complete(api, key[:-1])
    assert secret[:20] not in caplog.text
    lines = [record.fields for record in caplog.records if record.getMessage() == "request"]
    assert lines[0]["key"] == key.split("_")[1] and "key" not in lines[1]
    for path in tmp_path.rglob("midfill.sqlite*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes()


def test_the_same_secret_is_stored_differently_each_time():
    plain, stored = key_module.new_secret("0" * 12)
    again = key_module.Secret(key_module._digest("other salt", plain.split("_")[2]), "other salt")
    assert stored.digest != again.digest and stored.matches(plain.split("_")[2]) and again.matches(plain.split("_")[2])
    assert not stored.matches("0" * 64)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["create"], "--owner"),
        (["create", "--owner", "a", "--scopes", "root"], "scopes must be some of"),
        (["create", "--owner", "a", "--expires", "soon"], "90d, 24h"),
        (["create", "--owner", "a", "--concurrency", "0"], "from 1 to"),
        (["create", "--owner", "a\nb"], "printable"),
        (["rotate", "unknown"], "there is no key with the id 'unknown'"),
        (["rename"], "create"),
        ([], "create"),
    ],
)
def test_a_bad_command_is_one_sentence(flags, says, tmp_path, capsys):
    database = ["--database", f"sqlite:///{tmp_path}/x.sqlite"] if flags and flags[0] in ("create", "rotate") else []
    assert main(["keys", *flags, *database]) in (1, 2)
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("midfill-serve: ") and printed.err.count("\n") == 1
    assert says in printed.err

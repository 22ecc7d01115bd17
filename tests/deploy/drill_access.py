"""What nginx lets in, where it sends it, and what it says; run by test_cluster.py."""

import asyncio
import ssl
import uuid

import grpc
import httpx
import pytest

from deploy.cluster.processes import free_port
from inference_service.api.grpc import midfill_pb2 as pb
from inference_service.api.grpc.server import NAME

ROUTE = "/v1/completions"
PROMPT = "def add(a, b):\n    return "


def body(**fields):
    return {"prompt": PROMPT, "max_tokens": 2, "temperature": 0} | fields


async def until(condition, seconds=30):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_document_stays_at_its_replica(cluster):
    asked = {}
    async with cluster.client() as client:

        async def ask(session, number):
            request_id = f"affinity-{session}-{number}"
            asked[request_id] = session
            headers = {"X-Midfill-Session": session, "X-Request-Id": request_id}
            answer = await client.post(ROUTE, json=body(), headers=headers)
            assert answer.status_code == 200 and answer.headers["x-request-id"] == request_id

        for number in range(3):
            await asyncio.gather(*(ask(f"document-{each}", number) for each in range(60)))
    replicas = {}
    for line in cluster.accesses():
        if line["request_id"] in asked:
            replicas.setdefault(asked[line["request_id"]], set()).add(line["replica"])
    assert len(replicas) == 60 and all(len(found) == 1 for found in replicas.values())
    assert set.union(*replicas.values()) == {replica.address for replica in cluster.replicas}


async def test_neither_keys_nor_code_nor_queries_are_logged(cluster):
    marker = uuid.uuid4().hex
    async with cluster.client() as client:
        await client.post(f"{ROUTE}?api_key={marker}", json=body(prompt=marker), headers={"X-Midfill-Session": marker})
        await client.get(f"/{'x' * 40_000}?api_key={marker}")
        await client.get("/v1/models", headers={"Authorization": "", "X-API-Key": cluster.key})
    logged = cluster.nginx.access_log.read_text() + cluster.nginx.log.read_text()
    assert logged and marker not in logged and cluster.key not in logged and "Bearer" not in logged
    assert {"request_id", "status", "duration_s", "replica", "tls"} < cluster.accesses()[-1].keys()


async def test_operators_have_their_own_listener(cluster):
    async with cluster.client(cluster.admin_key) as client:
        for path in (
            "/admin/models",
            "/metrics",
            "//metrics",
            "/%6detrics",
            "/x/../admin/experiments",
            "/nginx_status",
        ):
            answer = await client.get(path)
            assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_found", path
        assert (await client.get(f"{cluster.operator_url}/admin/models")).json()["model"] == "nano"
        assert "Active connections" in (await client.get(f"{cluster.operator_url}/nginx_status")).text
    async with cluster.client(cluster.key) as client:
        assert (await client.get(f"{cluster.operator_url}/admin/models")).status_code == 403


async def test_what_nginx_refuses_has_the_shape_of_the_api(cluster):
    async with cluster.client() as client:
        too_large = await client.post(ROUTE, content=b"x" * ((1 << 20) + 1))
        at_the_limit = await client.post(ROUTE, content=b"x" * (1 << 20))
        headers = await client.get("/v1/models", headers={"X-Large": "x" * 70_000})
        plain = await client.get(f"http://127.0.0.1:{cluster.port}/readyz")
    for answer, status, code in (
        (too_large, 413, "body_too_large"), (headers, 431, "headers_too_large"), (plain, 400, "invalid_http"),
    ):  # fmt: skip
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.json()["error"].keys() == {"message", "type", "code", "param"} and answer.headers["x-request-id"]
    assert at_the_limit.status_code == 400, "the service itself finds that it is no JSON"


async def test_tls_from_1_2_on(cluster):
    def agreed(version):
        context = ssl.create_default_context(cafile=str(cluster.certificate))
        context.minimum_version = context.maximum_version = version
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with httpx.Client(verify=context, trust_env=False, timeout=30) as client:
            return client.get(f"{cluster.url}/livez").headers["strict-transport-security"]

    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert agreed(version) == "max-age=31536000"
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.warns(DeprecationWarning), pytest.raises(httpx.ConnectError):
            agreed(version)


async def test_pieces_of_a_stream_come_one_by_one(cluster):
    pieces = []
    async with cluster.client() as client:
        fields = body(max_tokens=96, stream=True, temperature=1.5, seed=1)
        async with client.stream("POST", ROUTE, json=fields) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for piece in answer.aiter_raw():
                pieces.append(piece)
    assert len(pieces) > 10 and pieces[-1].endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [True, False])
async def test_who_leaves_is_not_computed_for(cluster, stream):
    session = f"leaves-{stream}"
    fields = body(max_tokens=512, temperature=2, n=8, stream=stream, stop=["\0"], session=session)

    def gauges(name):
        return [cluster.metrics(replica)[f"midfill_{name}"] for replica in cluster.replicas]

    def ended_by_themselves():
        return sum(gauges("e2e_request_latency_seconds_count"))

    finished = ended_by_themselves()
    async with cluster.client() as client:
        call = asyncio.create_task(client.post(ROUTE, json=fields, headers={"X-Midfill-Session": session}))
        await until(lambda: any(gauges("num_requests_running")))
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await until(lambda: not any(gauges("num_requests_running")) and not any(gauges("active_requests")))
    assert ended_by_themselves() == finished, "it was aborted, not computed to its end"


async def test_a_quota_is_one_for_all_replicas(cluster):
    key = cluster.new_key("small", requests_per_minute=20)
    async with cluster.client(key) as client:

        async def ask(number):
            headers = {"X-Midfill-Session": f"quota-{number}", "X-Request-Id": f"quota-{number}"}
            return await client.post(ROUTE, json=body(), headers=headers)

        await until_known(client)
        answers = await asyncio.gather(*(ask(number) for number in range(60)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert [answer.status_code for answer in answers].count(200) == 20 and len(refused) == 40
    assert all(1 <= int(answer.headers["retry-after"]) <= 61 for answer in refused)
    served = {line["replica"] for line in cluster.accesses() if line["request_id"].startswith("quota-")}
    assert len(served) == 3, "and they did share the work"


async def until_known(client):
    """Replicas learn of a new key within two seconds; /v1/models takes nothing from its quota."""
    for _ in range(300):
        answers = [await client.get("/v1/models") for _ in range(12)]
        if all(answer.status_code == 200 for answer in answers):
            return
        await asyncio.sleep(0.2)
    raise AssertionError("the replicas do not know the new key")


async def test_a_client_gone_wild_is_held_off_by_the_second_line(cluster):
    url, nginx = cluster.another_nginx(MIDFILL_RATE="1", MIDFILL_BURST="2")
    nginx.start()
    async with cluster.client(url=url) as client, cluster.client(cluster.admin_key, url) as other:
        answers = [await client.get("/v1/models") for _ in range(12)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert answers[0].status_code == 200 and len(refused) >= 5
        for answer in refused:
            error = answer.json()["error"]
            assert (error["type"], error["code"]) == ("rate_limit_error", "too_many_requests")
            assert answer.headers["retry-after"] == "1" and answer.headers["x-request-id"]
        assert (await other.get("/v1/models")).status_code == 200, "another key is counted by itself"
        assert (await client.get("/readyz")).status_code == 200, "probes are not counted"
    nginx.stop()


async def test_without_any_replica_it_is_503_and_when_to_come_back(cluster):
    url, nginx = cluster.another_nginx(MIDFILL_REPLICAS="127.0.0.1:9 127.0.0.1:10")
    nginx.start()
    async with cluster.client(url=url) as client:
        for _ in range(8):  # also when nginx has given up on them
            answer = await client.post(ROUTE, json=body())
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_replica")
            assert answer.headers["retry-after"] == "1"
    nginx.stop()


@pytest.mark.full
async def test_grpc_goes_through_the_same_port(cluster):
    ports = {"grpc_port": free_port()}
    replica = cluster.new_replica("grpc", **ports)
    await asyncio.to_thread(replica.start)
    url, nginx = cluster.another_nginx(MIDFILL_GRPC_REPLICAS=f"127.0.0.1:{ports['grpc_port']}")
    nginx.start()
    trust = grpc.ssl_channel_credentials(cluster.certificate.read_bytes())
    async with grpc.aio.secure_channel(url.removeprefix("https://"), trust) as channel:
        call = channel.unary_stream(
            f"/{NAME}/Complete",
            request_serializer=pb.CompleteRequest.SerializeToString,
            response_deserializer=pb.CompleteResponse.FromString,
        )
        key = (("authorization", f"Bearer {cluster.key}"), ("x-midfill-session", "grpc-1"))
        request = pb.CompleteRequest(prompt=[PROMPT], max_tokens=4)
        parts = [part async for part in call(request, metadata=key, timeout=60)]
        assert parts[-1].usage.completion_tokens > 0
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await anext(aiter(call(request, timeout=60)))
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    nginx.stop()
    replica.stop()

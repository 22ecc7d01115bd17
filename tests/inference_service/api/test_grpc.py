"""gRPC beside HTTP: a real client, over a real port, against the process and against one application."""

import asyncio
import hashlib
import socket
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from deploy.cluster.processes import free_port
from inference_service.__main__ import main
from inference_service.api.grpc import midfill_pb2 as pb
from inference_service.api.grpc.server import NAME, GrpcServer
from tools import grpc_code

ROOT = Path(__file__).parents[3]


def complete(channel, request, **options):
    method = channel.unary_stream(
        f"/{NAME}/Complete",
        request_serializer=pb.CompleteRequest.SerializeToString,
        response_deserializer=pb.CompleteResponse.FromString,
    )
    return method(request, **options)


@pytest.fixture
async def rpc(serve):
    """`channel = await rpc(backend, **settings)`; `channel.api` is the application behind it."""
    servers = []

    async def start(backend=None, **settings):
        port = free_port()
        api = await serve(backend, grpc_port=port, **settings)
        server = GrpcServer(api.app, api.service.settings)
        await server.start()
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        servers.append((server, channel))
        channel.api = api
        return channel

    yield start
    for server, channel in servers:
        await channel.close()
        await server.stop()


async def test_a_completion_streams(rpc):
    channel = await rpc()
    request = pb.CompleteRequest(prompt=["def f("], suffix="", seed=2**40, logprobs=1, stop=["\n"], mode="line")
    parts = [part async for part in complete(channel, request)]
    assert "".join(part.text for part in parts) == " w0 w1 w2"
    assert [part.finish_reason for part in parts] == ["", "", "", "stop"]
    assert parts[0].tokens[0].text == " w0" and parts[0].tokens[0].logprob == -0.5
    assert parts[-1].usage.completion_tokens == 3 and parts[-1].usage.cached_tokens == 4
    assert parts[-1].accounting.model_version == "0123abcd" and parts[-1].accounting.queue_ms == 1.0
    (seen,) = channel.api.backend.requests
    assert (seen.prompt, seen.suffix, seen.seed, seen.stop, seen.mode) == ("def f(", "", 2**40, ("\n",), "line")
    assert (seen.max_tokens, seen.temperature, seen.deadline) == (16, 1.0, None), "what is absent has HTTP's default"


async def test_several_prompts_and_choices(rpc):
    channel = await rpc()
    parts = [part async for part in complete(channel, pb.CompleteRequest(prompt=["a", "b"], n=2, echo=True))]
    texts = dict.fromkeys(range(4), "")
    for part in parts:
        texts[part.index] += part.text
    assert list(texts.values()) == ["a w0 w1 w2", "a w0 w1 w2", "b w0 w1 w2", "b w0 w1 w2"]


@pytest.mark.parametrize(
    ("request_", "status", "code", "param"),
    [
        (pb.CompleteRequest(), "INVALID_ARGUMENT", "invalid_value", "prompt"),
        (pb.CompleteRequest(prompt=["x"], max_tokens=0), "INVALID_ARGUMENT", "invalid_value", "max_tokens"),
        (pb.CompleteRequest(prompt=["x"], model="gpt-5"), "NOT_FOUND", "model_not_found", "model"),
        (pb.CompleteRequest(prompt=["TOO LONG"]), "INVALID_ARGUMENT", "invalid_value", "prompt"),
        (pb.CompleteRequest(prompt=["FAULT"]), "INTERNAL", "internal_error", None),
        (pb.CompleteRequest(prompt=["LATE FAULT"]), "INTERNAL", "internal_error", None),
    ],
)
async def test_errors_mean_what_they_mean_over_http(rpc, request_, status, code, param):
    channel = await rpc()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in complete(channel, request_):
            pass
    assert caught.value.code().name == status
    trailing = dict(caught.value.trailing_metadata())
    assert trailing["error-code"] == code and trailing.get("error-param") == param


async def test_saturation_says_when_to_come_again(rpc, scripted):
    channel = await rpc(scripted(tokens=100, interval_s=0.01), max_queue=1)
    busy = complete(channel, pb.CompleteRequest(prompt=["x"], max_tokens=100))
    await busy.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await complete(channel, pb.CompleteRequest(prompt=["x"])).read()
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert int(dict(caught.value.trailing_metadata())["retry-after"]) >= 1
    busy.cancel()


async def test_the_same_keys_as_metadata(rpc, tmp_path):
    path = tmp_path / "keys"
    path.write_text(hashlib.sha256(b"team-key-1").hexdigest())
    channel = await rpc(api_keys_file=str(path))
    request = pb.CompleteRequest(prompt=["x"])
    for metadata in ((), (("authorization", "Bearer wrong"),)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await complete(channel, request, metadata=metadata).read()
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    for metadata in ((("authorization", "Bearer team-key-1"),), (("x-api-key", "team-key-1"),)):
        assert [part async for part in complete(channel, request, metadata=metadata)]


async def test_cancelling_ends_the_work(rpc, scripted):
    channel = await rpc(scripted(tokens=500, interval_s=0.01))
    running = complete(channel, pb.CompleteRequest(prompt=["x"], max_tokens=500))
    await running.read()
    running.cancel()
    async with asyncio.timeout(60):
        while channel.api.backend.running or channel.api.service._runs:
            await asyncio.sleep(0.005)
    assert channel.api.backend.aborted


async def test_a_caller_that_reads_nothing_does_not_keep_the_work(rpc, scripted, monkeypatch):
    monkeypatch.setattr("inference_service.api.grpc.bridge.SEND_TIMEOUT_S", 0.3)
    channel = await rpc(scripted(tokens=100_000, interval_s=0.0005), max_tokens_limit=100_000)
    asked = pb.CompleteRequest(prompt=["x" * 150_000], n=8, echo=True, max_tokens=100_000)
    running = complete(channel, asked)
    await running.read()
    async with asyncio.timeout(60):
        while channel.api.service._runs:
            await asyncio.sleep(0.02)
    assert channel.api.backend.aborted


async def test_the_deadline_of_the_call_is_one(rpc):
    channel = await rpc()
    before = time.monotonic()
    assert [part async for part in complete(channel, pb.CompleteRequest(prompt=["x"]), timeout=20)]
    assert channel.api.backend.requests[0].deadline < before + 20


async def test_health_and_reflection(rpc):
    channel = await rpc()
    health = health_pb2_grpc.HealthStub(channel)

    async def becomes(status):
        async with asyncio.timeout(60):
            while (await health.Check(health_pb2.HealthCheckRequest(service=NAME))).status != status:
                await asyncio.sleep(0.02)

    await becomes(health_pb2.HealthCheckResponse.SERVING)
    channel.api.service.leaving = True
    await becomes(health_pb2.HealthCheckResponse.NOT_SERVING)
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    answer = await stub.ServerReflectionInfo(iter([ask])).read()
    assert NAME in {service.name for service in answer.list_services_response.service}


def test_the_process_serves_both_and_drains(start_process):
    port = free_port()
    process = start_process("--port", "0", "--grpc-port", str(port), script={"tokens": 60, "interval_s": 0.02})
    process.ready()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        parts = iter(complete(channel, pb.CompleteRequest(prompt=["x"], max_tokens=50)))
        next(parts)
        process.signal()
        assert list(parts)[-1].finish_reason == "length"
    assert process.exit_code() == 0


def test_a_taken_port_is_one_sentence(start_process):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start_process("--port", "0", "--grpc-port", str(taken.getsockname()[1]))
        assert process.exit_code() == 1
    assert "for gRPC" in process.stderr.splitlines()[-1]


def test_a_second_service_does_not_take_half_of_the_calls(start_process):
    flags = ("--port", "0", "--grpc-port", str(free_port()))
    start_process(*flags).ready()
    second = start_process(*flags)
    assert second.exit_code() == 1
    assert "for gRPC" in second.stderr.splitlines()[-1]


def test_without_the_extra_the_setting_is_refused(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "inference_service.api.grpc.server", None)
    assert main(["--port", "0", "--grpc-port", "5000"]) == 2
    assert "midfill[grpc]" in capsys.readouterr().err


def test_the_generated_code_is_current(tmp_path):
    grpc_code.generate(tmp_path)
    written = list(tmp_path.rglob("*_pb2.py*"))
    assert len(written) == 2
    for made in written:
        assert made.read_text() == (ROOT / made.relative_to(tmp_path)).read_text(), "run python -m tools.grpc_code"

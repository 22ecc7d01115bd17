"""Bytes on a socket that no client library would send: an answer in the error shape or a closed connection, never a
500, and the service goes on."""

import asyncio
import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PATIENCE_S = 60


class Connection:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def send(self, data):
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def answer(self):
        """(status, headers, body) of the next answer; None when the connection was closed without one."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                head = await self.reader.readuntil(b"\r\n\r\n")
                status, *lines = head.decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines if line)
                body = await self.reader.readexactly(int(headers.get("content-length", 0)))
                return int(status.split()[1]), headers, body
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def closed(self):
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(65536):
                    pass


@pytest.fixture
def connect():
    """`await connect(api)`: a Connection."""
    writers = []

    async def connect(api):
        host, port = api.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writers.append(writer)
        return Connection(reader, writer)

    yield connect
    for writer in writers:
        writer.close()


def request(body, path="/v1/completions", extra=""):
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def alive(api):
    assert (await api.client.post("/complete", json={"code": "x"})).status_code == 200
    assert not api.service._runs


def check_error(answer, status):
    assert answer is not None and answer[0] == status, answer
    assert set(json.loads(answer[2])["error"]) == {"message", "type", "code", "param"}


@pytest.mark.parametrize(
    "sent",
    [
        b"",  # connects and says nothing
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-A: ",  # a header that never ends
        request(b"{}")[:-1],  # a body that never ends
        b"POST /complete HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ],
)
async def test_a_request_that_does_not_arrive_is_408(live, connect, sent):
    api = await live(receive_timeout_s=0.3)
    connection = await connect(api)
    await connection.send(sent)
    check_error(await connection.answer(), 408)
    await connection.closed()
    await alive(api)


async def test_dribbling_does_not_wind_the_clock_up(live, connect):
    api = await live(receive_timeout_s=0.3)
    connection = await connect(api)
    answering = asyncio.create_task(connection.answer())
    for byte in request(b'{"prompt": "x"}', extra="X-Slow: " + "y" * 1000 + "\r\n"):
        await connection.send(bytes([byte]))
        await asyncio.sleep(0.01)
        if answering.done():
            break
    check_error(await answering, 408)


async def test_an_idle_keep_alive_connection_is_kept(live, connect):
    api = await live(receive_timeout_s=1)
    connection = await connect(api)
    for _ in range(2):
        await connection.send(request(b'{"prompt": "x"}'))
        assert (await connection.answer())[0] == 200
        await asyncio.sleep(1.3)


async def test_headers_are_limited(live, connect):
    api = await live()
    connection = await connect(api)
    await connection.send(b"GET /livez HTTP/1.1\r\n")
    answering = asyncio.create_task(connection.answer())
    for _ in range(100):
        await connection.send(b"X-A: " + b"y" * 2000 + b"\r\n")
        await asyncio.sleep(0)
        if answering.done():
            break
    check_error(await answering, 431)
    await alive(api)


async def test_connections_are_limited(live, connect):
    api = await live(max_connections=3)
    kept = [await connect(api) for _ in range(3)]
    for connection in kept:
        await connection.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await connection.answer())[0] == 200
    extra = await connect(api)
    answer = await extra.answer()
    check_error(answer, 503)
    assert int(answer[1]["retry-after"]) >= 1
    kept[0].writer.close()
    await asyncio.sleep(0.1)
    freed = await connect(api)
    await freed.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await freed.answer())[0] == 200


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_hundred_megabytes_are_refused_without_being_kept(live, connect, chunked):
    api = await live(receive_timeout_s=5)
    connection = await connect(api)
    size = 100 << 20
    piece = b"x" * (1 << 20)
    if chunked:
        await connection.send(b"POST /complete HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"%x\r\n%s\r\n" % (len(piece), piece)
    else:
        await connection.send(f"POST /complete HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
    answering = asyncio.create_task(connection.answer())
    for _ in range(100):
        await connection.send(piece)
        if answering.done():
            break
    check_error(await answering, 413)
    await alive(api)


async def test_half_close_ends_the_work(live, scripted, connect):
    api = await live(scripted(tokens=500, interval_s=0.01))
    connection = await connect(api)
    await connection.send(request(b'{"prompt": "x", "max_tokens": 500}'))
    await asyncio.wait_for(api.backend.started.wait(), PATIENCE_S)
    connection.writer.write_eof()
    await connection.closed()
    while api.backend.running:
        await asyncio.sleep(0.01)
    assert api.backend.aborted


async def test_pipelined_requests_are_answered_in_order(live, connect):
    api = await live()
    connection = await connect(api)
    prompts = [f"p{i}" for i in range(20)]
    bodies = [json.dumps({"prompt": prompt, "echo": True, "max_tokens": 1}).encode() for prompt in prompts]
    await connection.send(b"".join(map(request, bodies)))
    for prompt in prompts:
        status, _, body = await connection.answer()
        assert status == 200 and json.loads(body)["choices"][0]["text"] == f"{prompt} w0"


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt": "\xff\xfe"}',
        b'{"prompt": "\xed\xa0\x80"}',  # a surrogate in UTF-8
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "x", "path": "\\udfff"}',
        b'{"prompt": "x", "context": [{"path": "\\udfff", "text": ""}]}',
        b"\x00" * 100,
        b'{"prompt": ' + b"[" * 100_000,
        b"",
    ],
)
async def test_bodies_that_are_not_text_are_400(live, connect, body):
    api = await live()
    connection = await connect(api)
    await connection.send(request(body))
    check_error(await connection.answer(), 400)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,  # TLS on a plain port
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /complete HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /complete HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"POST /complete HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nabc",
        b"POST /complete HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_a_400_or_nothing(live, connect, sent):
    api = await live(receive_timeout_s=0.3)
    connection = await connect(api)
    await connection.send(sent)
    answer = await connection.answer()
    assert answer is None or 400 <= answer[0] < 500, answer
    await alive(api)


async def test_a_reader_that_reads_nothing_does_not_keep_the_work(live, scripted, connect):
    api = await live(scripted(tokens=20_000), max_tokens_limit=20_000, send_timeout_s=0.3)
    connection = await connect(api)
    connection.writer.transport.pause_reading()
    body = {"prompt": "x" * 150_000, "max_tokens": 20_000, "stream": True, "echo": True, "n": 8}
    await connection.send(request(json.dumps(body).encode()))
    await asyncio.wait_for(api.backend.started.wait(), PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):
        while api.service._runs:
            await asyncio.sleep(0.02)


mutations = st.lists(
    st.tuples(st.sampled_from(("cut", "flip", "double", "insert")), st.integers(0, 400), st.binary(max_size=8)),
    min_size=1,
    max_size=4,
)


@given(mutations, st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_mangled_requests_never_are_a_500(live, connect, changes, rng):
    api = getattr(live, "_api", None) or await live(receive_timeout_s=0.05)
    live._api = api
    data = bytearray(request(b'{"prompt": "def f(", "suffix": "x", "max_tokens": 2}', extra="X-Request-Id: a\r\n"))
    for kind, where, piece in changes:
        at = where % (len(data) + 1)
        if kind == "cut":
            del data[at : at + 1 + len(piece)]
        elif kind == "flip" and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == "double":
            data[at:at] = data[at : at + 20]
        else:
            data[at:at] = piece
    connection = await connect(api)
    await connection.send(bytes(data))
    answer = await connection.answer()
    assert answer is None or answer[0] < 500, answer

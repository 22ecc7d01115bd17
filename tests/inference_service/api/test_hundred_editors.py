"""A hundred people type at one small machine: everybody gets an answer, or is told when to ask again."""

import asyncio
import random
from collections import Counter

import httpx
import pytest

LINES = "def area(width, height):\n    return width * height\n\n\nclass Shape:\n    def __init__(self, name):\n"
EDITORS = 100
ANSWERS = {200, 409, 429, 503}


async def _type(client: httpx.AsyncClient, number: int, keys: int) -> list[httpx.Response]:
    """One editor: a request at each key, the next one often before the last one is answered; some hang up."""
    rng = random.Random(number)
    asked: list[asyncio.Task[httpx.Response]] = []
    for typed in range(keys):
        body = {
            "prompt": f"# file {number}\n{LINES[: 20 + typed]}",
            "suffix": "\n",
            "path": f"src/file_{number}.py",
            "session": f"document-{number}",
            "max_tokens": 12,
            "temperature": 0,
            "mode": "line",
            "deadline_ms": 20_000,
            "stream": number % 3 == 0,
        }
        asked.append(asyncio.create_task(client.post("/v1/completions", json=body)))
        await asyncio.sleep(rng.uniform(0, 0.05))
        if rng.random() < 0.1:
            asked.pop().cancel()
    return await asyncio.gather(*asked)


def _gauge(page: str, name: str) -> float:
    return next(float(line.split()[1]) for line in page.splitlines() if line.startswith(f"midfill_{name} "))


@pytest.mark.parametrize("keys", [4, pytest.param(60, marks=pytest.mark.full)])
@pytest.mark.timeout(600)
async def test_nothing_but_answers_and_when_to_come_again(start_process, tiny_model_dir, keys):
    model = ("--model", str(tiny_model_dir), "--device", "cpu", "--threads", "1")
    process = start_process("--port", "0", "--max-queue", "3", *model, program=("-m", "inference_service"))
    line = await asyncio.to_thread(process.lines.get, True, 100)
    limits = httpx.Limits(max_connections=400)
    async with httpx.AsyncClient(base_url=line.split()[3], timeout=120, limits=limits) as client:
        typed = await asyncio.gather(*(_type(client, number, keys) for number in range(EDITORS)))
        answers = [answer for of_one in typed for answer in of_one]
        statuses = Counter(answer.status_code for answer in answers)
        assert set(statuses) <= ANSWERS and statuses[200] and statuses[503], statuses
        for answer in answers:
            if answer.status_code in (429, 503):
                assert int(answer.headers["retry-after"]) >= 1
            elif answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream"):
                assert answer.text.endswith("data: [DONE]\n\n") and '"error"' not in answer.text
        async with asyncio.timeout(30):
            left = 1.0
            while left:
                page = (await client.get("/metrics")).text
                gauges = ("num_requests_running", "num_requests_waiting", "active_requests", "reserved_tokens")
                left = sum(_gauge(page, name) for name in gauges)
        assert (await client.get("/readyz")).status_code == 200, "after the storm it goes on"

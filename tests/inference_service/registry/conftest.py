"""A store with two versions of a tiny model, and services that use it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from inference_service.app import create_app
from inference_service.backends.local import LocalBackend
from inference_service.engine.request import CompletionRequest
from inference_service.model import directory
from inference_service.model.gpt import GPT
from inference_service.registry.store import ModelStore
from inference_service.settings import Settings
from tests.inference_service.api.conftest import live, scripted, serve, start_process  # noqa: F401 (fixtures)

PROMPTS = ("def add(a, b):\n    return ", "import os\n\n\ndef main():\n    path = ", "class Point:\n    def __init__")


def write_version(path: Path, like: Path, seed: int) -> str:
    """A random model of `like`'s shape with a golden file that holds; returns its version."""
    loaded = directory.load(like)
    model = GPT(loaded.config)
    model.init_weights(seed=seed)  # its layers do nothing yet: no rounding can change what it writes
    directory.write(path, model, loaded.tokenizer, [], f"# {seed}\n", {})
    cases = asyncio.run(_golden(path))
    (path / "golden.json").write_text(json.dumps(cases))
    directory.write_manifest(path)
    return directory.load(path).version


async def _golden(path: Path) -> list[dict[str, str]]:
    backend = LocalBackend(str(path), device="cpu", threads=1)
    await backend.start()
    cases = []
    for prompt in PROMPTS:
        case = {"path": "a.py", "prefix": prompt, "suffix": "\n"}
        request = CompletionRequest(prompt=prompt, suffix="\n", path="a.py", max_tokens=48, mode="line")
        text = "".join([chunk.text async for chunk in backend.complete(request)])
        cases.append(case | {"text": text})
    await backend.stop()
    return cases


class Store:
    """`path` of the folder, `versions` by folder name."""

    def __init__(self, path: Path, versions: dict[str, str]) -> None:
        self.path, self.versions = path, versions
        self.one, self.two = versions["one"], versions["two"]


@pytest.fixture(scope="session")
def two_versions(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Store:
    path = tmp_path_factory.mktemp("store")
    versions = {name: write_version(path / name, tiny_model_dir, seed) for seed, name in enumerate(("one", "two"))}
    return Store(path, versions)


@pytest.fixture
def store(tmp_path: Path, two_versions: Store) -> Store:
    """A copy that a test may damage."""
    shutil.copytree(two_versions.path, tmp_path / "store")
    return Store(tmp_path / "store", two_versions.versions)


@pytest.fixture
def opened(store: Store, tmp_path: Path) -> ModelStore:
    return ModelStore(str(store.path), tmp_path / "cache")


class Client:
    """`http` talks to a service that has the store, in this process or in one of its own."""

    def __init__(self, http: httpx.AsyncClient, app: FastAPI | None = None) -> None:
        self.http, self.app = http, app

    async def ask(self, session: str | None = None, prompt: str = "x = ", **fields: Any) -> httpx.Response:
        body = {"prompt": prompt, "max_tokens": 2, "session": session, **fields}
        return await self.http.post("/v1/completions", json=body)

    async def version(self, session: str | None = None, **fields: Any) -> str:
        answer = await self.ask(session, **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()["midfill"]["model_version"]

    async def activate(self, version: str) -> httpx.Response:
        return await self.http.post(f"/admin/models/{version}/activate")

    async def begin(self, version: str, **fields: Any) -> httpx.Response:
        return await self.http.put("/admin/experiments", json={"version": version, **fields})

    async def experiments(self) -> dict[str, Any]:
        return (await self.http.get("/admin/experiments")).json()

    async def metrics(self) -> str:
        return (await self.http.get("/metrics")).text


@pytest.fixture
async def here(store: Store, tiny_model_dir: Path) -> AsyncIterator[Callable[..., Any]]:
    """`client = await here(**settings)`: the application in process, with the tiny model and the store."""

    def make(path: Path) -> LocalBackend:
        return LocalBackend(str(path), device="cpu", threads=1)

    async with contextlib.AsyncExitStack() as stack:

        async def start(**settings: Any) -> Client:
            chosen = Settings(models=str(store.path), response_cache_mb=0, **settings)
            app = create_app(chosen, make(tiny_model_dir), make, "tiny")
            await stack.enter_async_context(app.router.lifespan_context(app))
            await app.state.service.loaded.wait()
            http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://midfill", timeout=60)
            return Client(await stack.enter_async_context(http), app)

        yield start


@pytest.fixture
def start_service(start_process, store, tiny_model_dir):  # noqa: F811
    """`url, process = start_service(*flags)`: a real process that serves the tiny model and knows the store."""

    def start(*flags: str):
        model = ("--model", str(tiny_model_dir), "--models", str(store.path), "--device", "cpu", "--threads", "1")
        process = start_process("--port", "0", *model, *flags, program=("-m", "inference_service"))
        line = process.lines.get(timeout=100)  # a busy machine takes its time to import torch
        assert line.startswith("midfill-serve: ready on "), line
        return line.split()[3], process

    return start

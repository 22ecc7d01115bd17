"""A store with two versions of a tiny model, and services that use it."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import httpx
import pytest

from inference_service.backends.local import LocalBackend
from inference_service.model import directory
from inference_service.model.gpt import GPT
from inference_service.registry.store import ModelStore
from tests.inference_service.api.conftest import live, scripted, serve, start_process  # noqa: F401 (fixtures)

PROMPTS = ("def add(a, b):\n    return ", "import os\n\n\ndef main():\n    path = ", "class Point:\n    def __init__")


def write_version(path: Path, like: Path, seed: int) -> str:
    """A random model of `like`'s shape with a golden file that holds; returns its version."""
    loaded = directory.load(like)
    model = GPT(loaded.config)
    model.init_weights(seed=seed)  # its layers do nothing yet: it repeats the last token, whatever is rounded how
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
        from inference_service.engine.request import CompletionRequest

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


class Service:
    """A `midfill-serve` process with the store; `admin` is an HTTP client of it."""

    def __init__(self, process, flags) -> None:
        self.process, self.flags = process, flags
        self.url = process.ready()
        self.http = httpx.Client(base_url=self.url, timeout=60)

    def version(self, **fields) -> str:
        answer = self.http.post("/v1/completions", json={"prompt": "x = ", "max_tokens": 1, **fields})
        assert answer.status_code == 200, answer.text
        return answer.json()["midfill"]["model_version"]

    def activate(self, version: str) -> httpx.Response:
        return self.http.post(f"/admin/models/{version}/activate")


@pytest.fixture
def start_service(start_process, store, tiny_model_dir):  # noqa: F811
    """`start_service(*flags)`: a real process that serves the tiny model and knows the store."""

    def start(*flags: str, model: str = str(tiny_model_dir)) -> Service:
        all_flags = ("--port", "0", "--model", model, "--models", str(store.path), "--device", "cpu", "--threads", "1")
        return Service(start_process(*all_flags, *flags, program=("-m", "inference_service")), flags)

    return start

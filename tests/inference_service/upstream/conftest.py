"""Real servers on loopback: llama.cpp's with a tiny random GPT-2, and another Midfill."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from deploy.cluster.processes import free_port
from inference_service.model import directory, huggingface
from tests.inference_service.api.conftest import live, scripted, serve, start_process  # noqa: F401 (fixtures)
from tests.inference_service.model.huggingface.small_models import random_model, save
from training.export.gguf_file import export_gguf

CONTEXT = 16_384  # writing that much takes seconds: long enough to be interrupted
SERVER = Path(__file__).with_name("llama_cpp_server.py")


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf")
    model = random_model("gpt2", n_positions=CONTEXT)
    with torch.no_grad():  # one that never ends by itself: its end token is as unlikely as can be
        model.transformer.ln_f.bias.fill_(1.0)
        model.transformer.wte.weight[model.config.eos_token_id] = -1.0
    loaded = huggingface.load(save(model, "gpt2", tmp_path_factory.mktemp("checkpoint")))
    directory.write(path / "gpt2", loaded.build_float(), loaded.tokenizer, [], "# the card\n", {})
    export_gguf(directory.load(path / "gpt2"), path / "gpt2.gguf")
    return path / "gpt2.gguf"


class LlamaCpp:
    """The server as a process; `start` again after `kill` takes the same port."""

    def __init__(self, model: Path, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, str(SERVER), str(model), str(self.port)]
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log, text=True)
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: lines.put(self.process.stdout.readline()), daemon=True).start()
        assert lines.get(timeout=60).startswith("ready on"), self._log.read_text()[-2000:]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def llama_cpp(gguf: Path, tmp_path: Path):
    pytest.importorskip("xllamacpp")
    server = LlamaCpp(gguf, tmp_path / "llama.log")
    yield server
    server.kill()

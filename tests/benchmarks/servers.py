"""Two servers with the same random weights in GPT-2's layout, each a process: ours and llama.cpp's (from xllamacpp).

    python -m tests.benchmarks.servers midfill|llama.cpp FOLDER PORT THREADS EDITORS

llama.cpp keeps as many slots as there are editors, so that each keeps its prefix; ours has its defaults, but does not
guess ahead: random weights repeat themselves, and guessing would win too much.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from deploy.cluster.processes import free_port

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("midfill", "llama.cpp")
SHAPE = {"n_layer": 4, "n_head": 4, "n_embd": 256, "n_positions": 1024, "vocab_size": 16384}  # about nano's
GGUF = "gpt2.q8_0.gguf"  # tests.benchmarks.peers names it so, too
READY_S = 300


def write_weights(folder: Path, **shape: int) -> None:
    """`folder`/gpt2 in Hugging Face layout for ours, and the same as `folder`/gpt2.q8_0.gguf for llama.cpp; without
    `shape` GPT-2's of 124 million weights."""
    import gguf
    import numpy as np

    from inference_service.model import loading
    from tests.benchmarks.peers import write_gpt2
    from training.export.gguf_file import export_gguf

    write_gpt2(folder / "gpt2", **shape)
    if (folder / GGUF).exists():
        return
    floats = folder / "float.gguf"
    floats.unlink(missing_ok=True)
    export_gguf(loading.load(folder / "gpt2"), floats)
    reader = gguf.GGUFReader(floats)
    writer = gguf.GGUFWriter(folder / "partial.gguf", "gpt2")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind, *inner = field.types
        writer.add_key_value(name, field.contents(), kind, inner[0] if inner else None)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    q8 = gguf.GGMLQuantizationType.Q8_0
    for tensor in reader.tensors:
        data = np.asarray(tensor.data)
        matrix = data.ndim == 2 and "position" not in tensor.name
        writer.add_tensor(
            tensor.name, gguf.quants.quantize(data, q8) if matrix else data, raw_dtype=q8 if matrix else None
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    floats.unlink()
    (folder / "partial.gguf").rename(folder / GGUF)


class Server:
    """One of NAMES as a process on a free port; ready when made. `system` is what it says of its kernels."""

    def __init__(self, name: str, folder: Path, threads: int, editors: int) -> None:
        self.name, self.port = name, free_port()
        told = map(str, (folder, self.port, threads, editors))
        command = [sys.executable, "-m", "tests.benchmarks.servers", name, *told]
        with (folder / f"{name}.log").open("w") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            self._wait(folder / f"{name}.log")
            self._settle()
            self.system = self._kernels() if name == "midfill" else (folder / "llama.cpp.system").read_text()
        except BaseException:
            self.close()
            raise

    def _wait(self, log: Path) -> None:
        until = time.monotonic() + READY_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError(f"the server did not get ready:\n{log.read_text()[-2000:]}")

    def _settle(self) -> None:
        """Until the process rests: ours goes on choosing kernels for a while after it is ready."""
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            before = self.cpu_seconds()
            time.sleep(2)
            if self.cpu_seconds() - before < 0.1:
                return

    def _kernels(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/info", timeout=10) as answer:
            return str(json.load(answer)["backend"]["kernel"])

    def cpu_seconds(self) -> float:
        """Of the process so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def midfill(folder: Path, port: str, threads: str) -> int:
    from inference_service.__main__ import main
    from inference_service.engine import engine

    engine.SPECULATING_SEQUENCES = 0
    return main(["--model", str(folder / "gpt2"), "--device", "cpu", "--port", port, "--threads", threads])


def llama_cpp(folder: Path, port: str, threads: str, editors: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.port = str(folder / GGUF), int(port)
    params.n_parallel, params.n_ctx = int(editors), int(editors) * SHAPE["n_positions"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
    params.fit_params = False
    (folder / "llama.cpp.system").write_text(xllamacpp.get_system_info())
    server = xllamacpp.Server(params)  # ends with the object
    print(f"listening on {server.listening_address}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    kind, where, *rest = sys.argv[1:]
    if kind == "midfill":
        sys.exit(midfill(Path(where), *rest[:2]))
    llama_cpp(Path(where), *rest)

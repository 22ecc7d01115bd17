"""`make run`: start the service with the bundled model, show one completion, say how to connect, keep serving."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

_PORT = os.environ.get("MIDFILL_PORT", "8000")
if not (_PORT.isdecimal() and 0 < int(_PORT) < 65536):
    sys.exit(f"MIDFILL_PORT is {_PORT!r}: give a port from 1 to 65535, as in 'MIDFILL_PORT=8001 make run'.")
HOST, PORT = "127.0.0.1", int(_PORT)
ENDPOINT = f"http://{HOST}:{PORT}"
ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "tests" / "benchmarks" / "unseen.py"
LOG = ROOT / ".runs" / "serve.log"
CURSOR = "self.entries."  # the line of SAMPLE that gets completed, up to the cursor
DIM, BOLD, PLAIN = ("\x1b[2;3m", "\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("⟦", "", "⟧")

CONNECT = f"""
{BOLD}Connect{PLAIN if sys.stdout.isatty() else ""}
  curl     curl -s {ENDPOINT}/complete -H 'content-type: application/json' \\
             -d '{{"code": "def add(a, b):\\n    return "}}'
  Neovim   add {ROOT}/editors/neovim to the runtime path, then
           require("midfill").setup{{ cmd = {{ "{ROOT}/.venv/bin/midfill-lsp" }},
                                     endpoint = "{ENDPOINT}", keymaps = {{ accept = "<Tab>" }} }}
  VS Code  make vsix && code --install-extension editors/vscode/midfill-0.1.0.vsix
           settings: "midfill.endpoint": "{ENDPOINT}",
                     "midfill.serverCommand": ["{ROOT}/.venv/bin/midfill-lsp"]

Serving on {ENDPOINT}, requests are logged to {LOG.relative_to(ROOT)}; Ctrl-C ends it.
"""


def main() -> int:
    if port_taken():
        print(f"Port {PORT} on {HOST} is in use: stop what uses it, or run 'MIDFILL_PORT=8001 make run'.")
        return 1
    print(f"3/3 starting the service with the bundled model on {ENDPOINT}", flush=True)
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("wb") as log:
        command = [sys.executable, "-m", "inference_service", "--host", HOST, "--port", str(PORT)]
        service = subprocess.Popen(command, cwd=ROOT, stderr=log)
    signal.signal(signal.SIGTERM, lambda *_: service.terminate())
    try:
        if not wait_until_ready(service):
            print(LOG.read_text(encoding="utf-8"), end="")
            return service.wait() or 1
        show_completion()
        print(CONNECT, flush=True)
        return service.wait()
    except KeyboardInterrupt:
        print("\nstopping")
        return service.wait()  # Ctrl-C reached the service too, it drains
    finally:
        service.terminate()


def port_taken() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, PORT)) == 0


def wait_until_ready(service: subprocess.Popen[bytes]) -> bool:
    while service.poll() is None:
        try:
            with urllib.request.urlopen(f"{ENDPOINT}/readyz", timeout=1):  # noqa: S310 - our own address
                return True
        except OSError:
            time.sleep(0.1)
    return False


def show_completion() -> None:
    lines = SAMPLE.read_text(encoding="utf-8").split("\n")
    number = next(i for i, line in enumerate(lines) if line.strip().startswith(CURSOR))
    column = lines[number].index(CURSOR) + len(CURSOR)
    started = time.perf_counter()
    answer = subprocess.run(
        [sys.executable, "-m", "lsp_server", "complete", f"{SAMPLE}:{number + 1}:{column + 1}", "--endpoint", ENDPOINT],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    took = (time.perf_counter() - started) * 1e3
    print(
        f"\n{SAMPLE.relative_to(ROOT)}, line {number + 1}, "
        f"through the language server ({took:.0f} ms with its start):\n"
    )
    for shown in lines[max(0, number - 6) : number]:
        print(f"  {shown}")
    print(f"  {lines[number][:column]}{DIM}{answer.stdout.rstrip()}{PLAIN}")
    if answer.returncode:
        print(answer.stderr)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m inference_service` as a process: start, refusal, drain and end."""

import contextlib
import json
import os
import signal
import socket
import threading
import time

import httpx
import pytest

from deploy.cluster.processes import free_port, service_environment
from inference_service.__main__ import main
from tests.service_process import running_service
from tests.tries import tries

SLOW = {"tokens": 400, "interval_s": 0.02}


def stream_lines(url, lines, max_tokens):
    """Read a stream in a thread; the lines are appended as they come."""

    def read():
        body = {"prompt": "x", "stream": True, "max_tokens": max_tokens}
        with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as response:
            for line in response.iter_lines():
                lines.extend([line] if line else [])

    thread = threading.Thread(target=read)
    thread.start()
    while not lines:
        time.sleep(0.01)
    return thread


def until_draining(url):
    while (ready := httpx.get(f"{url}/readyz", timeout=60)).status_code == 200:
        time.sleep(0.01)
    return ready


def last_reason(lines):
    assert lines[-1] == "data: [DONE]"
    return json.loads(lines[-2][6:])["choices"][0]["finish_reason"]


def test_ready_line_then_sigterm_exits_zero(start_process):
    process = start_process("--port", "0", script={"load_s": 0.3})
    line = process.lines.get(timeout=120)
    url = line.split()[3]
    port = url.rpartition(":")[2]
    assert line == f"midfill-serve: ready on http://127.0.0.1:{port} (model nano, device cpu)"
    assert httpx.get(f"{url}/readyz", timeout=60).status_code == 200
    process.signal(signal.SIGTERM)
    assert process.exit_code() == 0
    assert process.lines.empty(), "exactly one line on stdout"
    assert all(json.loads(line)["event"] for line in process.stderr.splitlines())


def test_sigterm_while_kernels_are_compiled_exits_zero_too(tmp_path):
    with running_service(NUMBA_CACHE_DIR=str(tmp_path)) as url:
        assert httpx.get(f"{url}/readyz", timeout=60).status_code == 200
    assert not list(tmp_path.rglob("*step*.nbc")), "they were compiled already"


def test_an_answer_does_not_wait_for_a_delayed_acknowledgement(start_process):
    url = start_process("--port", "0").ready()
    with httpx.Client(base_url=url, timeout=60) as client:
        for _ in tries():
            times = []
            for _ in range(20):
                start = time.perf_counter()
                client.post("/complete", json={"code": "x"})
                times.append(time.perf_counter() - start)
            if sorted(times)[5] < 0.03:  # with the delay all would take 40 ms, on a busy machine some do in any case
                break


def test_sigterm_drains(start_process):
    process = start_process("--port", "0", script=SLOW)
    url = process.ready()
    lines = []
    reader = stream_lines(url, lines, max_tokens=200)
    process.signal(signal.SIGTERM)
    ready = until_draining(url)
    assert ready.status_code == 503 and ready.json()["reason"] == "draining" and "retry-after" in ready.headers
    refused = httpx.post(f"{url}/complete", json={"code": "x"}, timeout=60)
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "draining"
    reader.join()
    assert last_reason(lines) == "length"
    assert process.exit_code() == 0


@pytest.mark.parametrize("twice", [False, True])
def test_what_outlasts_the_drain_ends_with_shutdown(start_process, twice):
    process = start_process("--port", "0", "--drain-s", "60" if twice else "0.3", script=SLOW)
    lines = []
    url = process.ready()
    reader = stream_lines(url, lines, max_tokens=400)
    start = time.monotonic()
    process.signal(signal.SIGINT)
    if twice:
        until_draining(url)
        process.signal(signal.SIGINT)
    reader.join()
    assert last_reason(lines) == "shutdown"
    assert json.loads(lines[-2][6:])["usage"]["completion_tokens"] > 0
    assert process.exit_code() == 0 and time.monotonic() - start < 30, "not the minute for which it may drain"


def test_end_of_stdin_shuts_down_where_asked_for(start_process):
    watching = start_process("--port", "0", env={"MIDFILL_EXIT_ON_STDIN_EOF": "1"})
    ignoring = start_process("--port", "0")
    watching.ready()
    url = ignoring.ready()
    for process in (watching, ignoring):
        process.process.stdin.close()
    assert watching.exit_code() == 0
    assert httpx.get(f"{url}/livez", timeout=60).status_code == 200


def test_alive_but_not_ready_while_loading(start_process):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = start_process("--port", str(port), script={"load_s": 600})
    url = f"http://127.0.0.1:{port}"
    listening = False
    while not listening:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            listening = True
        time.sleep(0.05)
    with httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").json()["reason"] == "loading"
    process.signal(signal.SIGTERM)
    assert process.exit_code() == 0
    assert process.lines.empty()


def test_model_that_does_not_load_is_exit_one(start_process):
    process = start_process("--port", "0", "--model", "/no/model", script={"load_error": "no config.json there"})
    assert process.exit_code() == 1
    last = process.stderr.splitlines()[-1]
    assert last == "midfill-serve: cannot serve the model '/no/model': no config.json there"
    assert process.lines.empty()


# Holds an interpreter up where it would import torch, until the file "go" is there.
HOLD_UP = """
import importlib.abc, pathlib, sys, time
here = pathlib.Path(__file__).parent
class HoldUp(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            (here / "held up").touch()
            while not (here / "go").exists():
                time.sleep(0.01)
sys.meta_path.insert(0, HoldUp())
"""


@contextlib.contextmanager
def starting(start_process, folder):
    """(the process, its port) of a service that has read its settings and has not come to its model yet."""
    port = free_port()
    (folder / "sitecustomize.py").write_text(HOLD_UP)
    path = os.pathsep.join((str(folder), service_environment({})["PYTHONPATH"]))
    process = start_process(
        "--port", str(port), "--device", "cpu", env={"PYTHONPATH": path}, program=("-m", "inference_service")
    )
    while not (folder / "held up").exists():
        assert process.process.poll() is None, process.stderr
        time.sleep(0.01)
    yield process, port
    (folder / "go").touch()


def test_who_cannot_be_answered_yet_is_refused_and_need_not_wait(start_process, tmp_path):
    """What a load balancer sends to a replica that has just been restarted goes to the next one at once."""
    with starting(start_process, tmp_path) as (process, port), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert httpx.get(f"{process.ready()}/readyz", timeout=60).status_code == 200


def test_port_taken_by_one_that_started_at_the_same_time_is_one_clear_sentence(start_process, tmp_path):
    with starting(start_process, tmp_path) as (process, port):
        faster = socket.create_server(("127.0.0.1", port))
    with faster:
        assert process.exit_code() == 1
    says = f"midfill-serve: 127.0.0.1:{port} is already in use; choose another port"
    assert process.stderr.splitlines()[-1].startswith(says)


def test_port_in_use_is_one_clear_sentence(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    assert capsys.readouterr().err == (
        f"midfill-serve: 127.0.0.1:{port} is already in use; "
        "choose another port with --port, or --port 0 for any free one\n"
    )


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--host", "0.0.0.0"), "refusing to listen on 0.0.0.0 without API keys"),
        (("--host", "::"), "--allow-anonymous"),
        (("--port", "70000"), "--port must be an integer from 0 to 65535, not 70000"),
        (("--prot", "8000"), "unrecognized arguments: --prot 8000"),
        (("--config", "/no/such.toml"), "cannot read the configuration file /no/such.toml"),
    ],
)
def test_bad_settings_are_one_sentence_and_exit_two(capsys, flags, says):
    assert main(list(flags)) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("midfill-serve: ") and printed.err.count("\n") == 1
    assert says in printed.err


def test_a_misspelt_variable_is_in_the_log_of_the_start(start_process):
    process = start_process("--port", "0", env={"MIDFILL_MODLE": "large", "MIDFILL_TOKEN": "mf_of_a_user"})
    process.ready()
    first, second = (json.loads(line) for line in process.stderr.splitlines()[:2])
    assert first["level"] == "warning"
    assert first["problem"] == "MIDFILL_MODLE is no setting and is ignored; is MIDFILL_MODEL meant?"
    assert second["event"] == "model loaded"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "refusing to listen on 0.0.0.0 without API keys"),
        (["keys", "list", "--database", "sqlite://"], "database must be none, sqlite:///PATH"),
    ],
)
def test_a_misspelt_variable_is_told_where_it_is_missed(capsys, monkeypatch, arguments, says):
    monkeypatch.setenv("MIDFILL_DATABSE", "postgresql://u:secret-word@h/db")
    assert main(arguments) == 2
    warning, problem = capsys.readouterr().err.splitlines()
    assert warning == (
        "midfill-serve: warning: MIDFILL_DATABSE is no setting and is ignored; is MIDFILL_DATABASE meant?"
    )
    assert problem.startswith(f"midfill-serve: {says}")


def test_allow_anonymous_listens_on_every_address(start_process):
    url = start_process("--host", "0.0.0.0", "--port", "0", "--allow-anonymous").ready()
    assert httpx.get(url.replace("0.0.0.0", "127.0.0.1") + "/readyz", timeout=60).status_code == 200

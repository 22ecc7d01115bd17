"""The shipped nginx configuration as a text: what must be in it whatever the drills find."""

import os
import subprocess
import sys
from pathlib import Path

import crossplane
import pytest

from deploy.cluster.processes import ROOT, service_environment
from inference_service import http_server
from inference_service.settings import Settings
from tests.programs import program

RENDER = ROOT / "deploy" / "nginx" / "render.sh"


@pytest.fixture
def settings(tmp_path, certificate):
    return {
        "MIDFILL_REPLICAS": "127.0.0.1:8001 127.0.0.1:8002",
        "MIDFILL_GRPC_REPLICAS": "",
        "MIDFILL_TLS_CERTIFICATE": str(certificate[0]),
        "MIDFILL_TLS_KEY": str(certificate[1]),
        "MIDFILL_NGINX_DIR": str(tmp_path),
    }


def render(path, settings):
    done = subprocess.run([RENDER], env={**service_environment({}), **settings}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path.write_text(done.stdout)
    return path


def directives(path):
    """(names of the blocks around it, directive, arguments) of a whole configuration."""
    parsed = crossplane.parse(str(path), single=True)
    assert parsed["status"] == "ok", parsed["errors"]
    found = []

    def walk(block, around):
        for item in block:
            found.append((around, item["directive"], item["args"]))
            walk(item.get("block", ()), (*around, item["directive"]))

    walk(parsed["config"][0]["parsed"], ())
    return found


@pytest.mark.parametrize("grpc", ["", "127.0.0.1:9001 127.0.0.1:9002"])
def test_nginx_takes_it_and_nothing_is_left_to_fill_in(tmp_path, settings, grpc):
    path = render(tmp_path / "nginx.conf", {**settings, "MIDFILL_GRPC_REPLICAS": grpc})
    checked = subprocess.run([program("nginx", "nginx"), "-t", "-c", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr and "${" not in path.read_text() and "#grpc" not in path.read_text()
    assert ("grpc_pass" in path.read_text()) == bool(grpc)


def test_what_makes_completions_fast_and_retries_safe_is_said(tmp_path, settings):
    found = directives(render(tmp_path / "nginx.conf", settings))
    everywhere = {name: args for around, name, args in found if around == ("http",)}
    assert everywhere["proxy_buffering"] == ["off"] and everywhere["gzip"] == ["off"]
    assert everywhere["proxy_request_buffering"] == ["on"], "what is not kept cannot be sent to another replica"
    assert everywhere["proxy_ignore_client_abort"] == ["off"]
    assert everywhere["proxy_next_upstream"] == ["error", "timeout", "http_502", "http_503", "non_idempotent"]
    assert everywhere["server_tokens"] == ["off"]
    names = {name for _, name, _ in found}
    assert not names & {"proxy_cache", "proxy_intercept_errors", "proxy_ignore_headers"}
    upstream = [(name, args) for around, name, args in found if around == ("http", "upstream")]
    assert ("hash", ["$midfill_session", "consistent"]) in upstream
    assert [args[0] for name, args in upstream if name == "server"] == ["127.0.0.1:8001", "127.0.0.1:8002"]


def test_its_limits_are_those_of_the_service(tmp_path, settings):
    everywhere = {name: args for around, name, args in directives(render(tmp_path / "nginx.conf", settings))
                  if around == ("http",)}  # fmt: skip
    body = str(Settings().max_body_bytes)
    assert everywhere["client_max_body_size"] == [body]
    assert everywhere["client_body_buffer_size"] == [body], "a body that fits into memory is not written to disk"
    number, size = everywhere["large_client_header_buffers"]
    assert int(number) * int(size.removesuffix("k")) * 1024 == http_server.MAX_HEADER_BYTES
    assert everywhere["client_body_timeout"] == [f"{http_server.RECEIVE_TIMEOUT_S:g}s"]


def test_a_missing_variable_is_one_sentence(settings):
    done = subprocess.run([RENDER], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "render.sh: set MIDFILL_REPLICAS to host:port of each replica, separated by spaces\n"


def test_gixy_finds_nothing(tmp_path, settings):
    path = render(tmp_path / "nginx.conf", settings)
    done = subprocess.run([Path(sys.executable).parent / "gixy", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout

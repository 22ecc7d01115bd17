"""Logs and traces on their way to where they are kept: what the service says arrives, and nothing else does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from lupa.luajit21 import LuaRuntime, lua_type

from tests.deploy.manifests import DEPLOY
from tests.deploy.spoken import Spoken, listen

pytestmark = pytest.mark.timeout(400)  # starts a service, which compiles first on a new machine
LOGGING = DEPLOY / "logging"
KEY = "mf_0123456789ab_" + "0f" * 32
# what the plugins of Fluent Bit that are used here understand, in its own words and in lower case
KNOWN = {
    "service": {"flush", "grace", "log_level", "parsers_file"},
    "parser": {"name", "format", "regex", "time_key", "time_format", "time_keep"},
    "input forward": {"name", "listen", "port", "mem_buf_limit"},
    "input tail": {
        *("name", "tag", "path", "parser", "db", "mem_buf_limit", "skip_long_lines", "refresh_interval"),
    },
    "filter parser": {"name", "match", "key_name", "parser", "reserve_data"},
    "filter lua": {"name", "match", "script", "call"},
    "output file": {"name", "match", "path", "file", "format"},
    "output es": {
        *("name", "match", "host", "port", "http_user", "http_passwd", "logstash_format", "logstash_prefix"),
        *("suppress_type_name", "replace_dots", "tls", "retry_limit"),
    },
    "output loki": {
        *("name", "match", "host", "port", "http_user", "http_passwd", "labels", "label_keys", "line_format"),
        *("tls", "retry_limit"),
    },
}


@pytest.fixture(scope="module")
def spoken() -> Spoken:
    return listen()


@pytest.fixture(scope="module")
def redact() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """redact.lua in the Lua that Fluent Bit has (LuaJIT)."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.execute((LOGGING / "redact.lua").read_text(encoding="utf-8"))
    function = lua.globals().redact

    def run(record: dict[str, Any]) -> dict[str, Any]:
        code, time, kept = function("midfill.x", 1.5, lua.table_from(record, recursive=True))
        assert (code, time) == (2, 1.5)
        return {name: list(value.values()) if lua_type(value) == "table" else value for name, value in kept.items()}

    return run


def sections(*names: str) -> list[tuple[str, dict[str, str]]]:
    """("input tail", {key in lower case: value}) of files, each with those that it includes but for the output."""
    found: list[tuple[str, dict[str, str]]] = []
    for line in (line for name in names for line in (LOGGING / name).read_text(encoding="utf-8").splitlines()):
        if line.startswith("@INCLUDE"):
            included = line.split()[1]
            found += [] if included == "output.conf" else sections(included)
        elif line.startswith("["):
            found.append((line.strip("[]").lower(), {}))
        elif line.strip() and not line.startswith("#"):
            key, value = line.split(maxsplit=1)
            kind, keys = found[-1]
            keys[key.lower()] = value
            if key == "Name" and kind != "parser":
                found[-1] = (f"{kind} {value}", keys)
    return found


def test_what_the_service_logs_arrives(spoken: Spoken, redact: Callable[[dict[str, Any]], dict[str, Any]]):
    assert {"model loaded", "request", "draining"} <= {line["event"] for line in spoken.lines}
    for line in spoken.lines:
        assert redact(line) == line


def test_what_nginx_logs_arrives(redact: Callable[[dict[str, Any]], dict[str, Any]]):
    line = {"ts": "2026-11-21T18:00:00+00:00", "event": "access", "request_id": "a" * 32, "method": "POST"}
    line |= {"path": "/v1/completions", "protocol": "HTTP/2.0", "status": "200", "duration_s": "0.057"}
    assert redact(line) == line
    assert redact(line | {"replica": "10.0.0.1:8000, 10.0.0.2:8000"})["replica"] == "10.0.0.1:8000,10.0.0.2:8000"
    assert "client" not in redact(line | {"client": "203.0.113.7"})


CODE = "def secret_sauce(x): return x"


@given(
    record=st.dictionaries(
        st.sampled_from(
            ["prompt", "text", "body", "headers", "authorization", "status", "model", "path", "at", "event"]
        ),
        st.sampled_from(
            [CODE, [CODE], {"prompt": CODE}, f"Bearer {KEY}", KEY, {"key": KEY}, "postgresql://u:hunter2@h/d"]
        ),
    )
)
def test_code_and_keys_do_not_arrive(record: dict[str, Any], redact: Callable[[dict[str, Any]], dict[str, Any]]):
    for name in ("event", "at", "path"):  # sentences of the service's own; the service is tested not to quote code
        if CODE in str(record.get(name)):
            del record[name]
    told = json.dumps(redact(record))
    for secret in (CODE, KEY, "hunter2", "authorization", "prompt"):
        assert secret not in told


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("cannot reach postgresql://midfill:hunter2@db/midfill", "cannot reach postgresql://midfill:***@db/midfill"),
        (f"refused Bearer {KEY}", "refused Bearer ***"),
        (f"a key {KEY} was sent", "a key *** was sent"),
        ("Password=hunter2&x=1", "Password=***&x=1"),
    ],
)
def test_secrets_in_sentences_are_masked(text: str, masked: str, redact: Callable[[dict[str, Any]], dict[str, Any]]):
    assert redact({"event": "x", "reason": text})["reason"] == masked


def test_of_a_line_without_structure_only_its_length_is_kept(redact: Callable[[dict[str, Any]], dict[str, Any]]):
    assert redact({"log": CODE}) == {"event": "line without structure", "bytes_out": len(CODE)}


@pytest.mark.parametrize("name", ["fluent-bit.conf", "fluent-bit-kubernetes.conf"])
@pytest.mark.parametrize("output", ["file", "elasticsearch", "loki"])
def test_fluent_bit_is_asked_for_what_it_knows(name: str, output: str):
    parts = sections(name, "parsers.conf", f"output-{output}.conf")
    for kind, keys in parts:
        assert set(keys) <= KNOWN[kind], kind
    parsers = {keys["name"] for kind, keys in parts if kind == "parser"}
    assert {keys["parser"] for _, keys in parts if "parser" in keys} <= parsers
    # nothing leaves that was not redacted
    kinds = [kind for kind, _ in parts]
    assert kinds.index("filter lua") < min(index for index, kind in enumerate(kinds) if kind.startswith("output"))
    [script] = [keys for kind, keys in parts if kind == "filter lua"]
    assert f"function {script['call']}(" in (LOGGING / script["script"]).read_text(encoding="utf-8")


def test_fluentd_keeps_the_same_fields():
    text = (LOGGING / "fluentd.conf").read_text(encoding="utf-8")
    kept = set(re.search(r"keep_keys (\S+)", text)[1].split(","))
    rewritten = set(re.findall(r"^    (\w+) \$\{", text, re.MULTILINE))
    lua = (LOGGING / "redact.lua").read_text(encoding="utf-8")
    plain = set(re.search(r"PLAIN = set\(\[\[(.*?)\]\]", lua, re.DOTALL)[1].split())
    sentences = set(re.search(r'TEXT = set\("(.*?)"', lua)[1].split())
    assert kept == plain
    assert rewritten == sentences
    assert "renew_record true" in text


def test_traces_keep_what_the_service_tells(spoken: Spoken):
    config = yaml.safe_load((DEPLOY / "tracing" / "collector.yaml").read_text(encoding="utf-8"))
    redaction = config["processors"]["redaction"]
    assert redaction["allow_all_keys"] is False
    assert spoken.attributes <= set(redaction["allowed_keys"])
    assert any(re.search(value, KEY) for value in redaction["blocked_values"])


def test_the_collectors_pipeline_is_whole():
    config = yaml.safe_load((DEPLOY / "tracing" / "collector.yaml").read_text(encoding="utf-8"))
    [pipeline] = config["service"]["pipelines"].values()
    for part in ("receivers", "processors", "exporters"):
        assert set(pipeline[part]) == set(config[part])
    assert set(config["service"]["extensions"]) == set(config["extensions"])
    assert pipeline["processors"][:2] == ["memory_limiter", "redaction"]
    assert pipeline["processors"][-1] == "batch"

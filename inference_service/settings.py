"""Every setting of the service, once: default, range and one line of help.

The command line, the `MIDFILL_*` environment and the TOML file are all derived from the `Settings` dataclass.
Precedence: flags, then environment, then file, then defaults.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import ipaddress
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):\S*@|(?<=[?&])(password)=[^&\s]*")
# What else of this project reads: a shell in which somebody operates or tests has these beside the service's.
_OF_OTHERS = {
    "CONFIG", "UPSTREAM_KEY", "TOKEN", "IMAGE", "PROMETHEUS_PORT", "OPERATOR_PORT", "OPERATOR_LISTEN", "LISTEN",
    "REPLICAS", "GRPC_REPLICAS", "SERVERS", "GRPC_SERVERS", "TLS_CERTIFICATE", "TLS_KEY", "RATE", "BURST", "ERRORS",
    "ACCESS_LOG", "NGINX_DIR", "GRAFANA_DATABASE_HOST", "GRAFANA_DATABASE_USER", "GRAFANA_DATABASE_PASSWORD",
    "GRAFANA_DATABASE_SSLMODE", "SCREENSHOTS", "SOAK_SECONDS", "SOAK_SEED",
}  # fmt: skip
# Kubernetes puts these, and MIDFILL_PORT=tcp://…, into every pod beside a Service that is called "midfill".
_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP|SCTP)")
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


class SettingsError(ValueError):
    """A setting that cannot be used; the message is one sentence for the person who starts the service."""


def _setting(
    default: Any, text: str, *, low: float | None = None, high: float | None = None, choices: Sequence[str] = ()
) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True, slots=True)
class Settings:
    """Validated settings of one process. Raises SettingsError when a value is out of range."""

    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(8000, "TCP port, 0 = any free one", low=0, high=65535)
    grpc_port: int = _setting(0, "TCP port for gRPC, 0 = off; needs the extra grpc", low=0, high=65535)
    model: str = _setting("nano", "model directory, or the name of a bundled model")
    device: str = _setting("auto", "auto, cpu or cuda", choices=("auto", "cpu", "cuda"))
    threads: int = _setting(0, "CPU threads of the model, 0 = chosen", low=0, high=1024)
    kv_cache: str = _setting(
        "auto",
        "keys and values of cached tokens: float, int8, or auto (int8 on a GPU, float on a CPU)",
        choices=("auto", "float", "int8"),
    )
    models: str = _setting("", "folder or fsspec URL of model versions to switch between")
    models_cache: str = _setting("~/.cache/midfill/models", "where versions from a URL are copied to")
    response_cache_mb: int = _setting(64, "memory for answers to give again, MB, 0 = off", low=0, high=1 << 20)
    response_cache_ttl_s: float = _setting(300.0, "seconds that an answer may be given again", low=1, high=86400)
    upstream: str = _setting("", "URL of an OpenAI-compatible server that computes in place of --model")
    upstream_model: str = _setting("", "model of the upstream server, none = its first one")
    upstream_fim: str = _setting("", "how the upstream is told a suffix: suffix, or a family of docs/upstream.md")
    upstream_key_file: str = _setting("", "file with the upstream's API key, or MIDFILL_UPSTREAM_KEY")
    allow_anonymous: bool = _setting(False, "accept requests without a key on a non-loopback address")
    api_keys_file: str = _setting("", "file with the SHA-256 (hex) of one API key per line, # comments")
    database: str = _setting(
        "", "keys and events: sqlite:///PATH, postgresql://…, none; empty is the user's own file where there is one"
    )
    redis: str = _setting("", "redis://… for what replicas count together, empty counts in each one alone")
    spool_dir: str = _setting("", "folder for events that are not in the database yet, empty is chosen")
    spool_max_bytes: int = _setting(256 << 20, "most bytes in that folder", low=1 << 16, high=1 << 40)
    events_retention_days: int = _setting(90, "days that completions and events are kept, 0 = always", low=0, high=3650)
    store_code: bool = _setting(False, "keep the code of prompts and completions in the database, too")
    max_body_bytes: int = _setting(1 << 20, "largest request body, bytes", low=1024, high=1 << 30)
    max_prompt_chars: int = _setting(
        200_000, "most characters of prompt, suffix and context together", low=1, high=1 << 30
    )
    max_tokens_limit: int = _setting(512, "largest max_tokens of a request", low=1, high=1 << 20)
    max_connections: int = _setting(4096, "most open connections; beyond it 503", low=1, high=1_000_000)
    max_queue: int = _setting(64, "most completions running and waiting; beyond it 503", low=1, high=100_000)
    max_reserved_tokens: int = _setting(
        1 << 18, "most estimated tokens of prompts and outputs at a time; beyond it 503", low=1, high=1 << 40
    )
    max_wait_s: float = _setting(
        30.0,
        "longest predicted wait for the first token; beyond it, or a request's deadline, 503",
        low=0.001,
        high=3600,
    )
    log_format: str = _setting("json", "json (one object a line) or plain", choices=("json", "plain"))
    otlp_endpoint: str = _setting("", "base URL of an OTLP/HTTP collector for traces; needs the extra otel")
    drain_s: float = _setting(20.0, "seconds that work in flight may take after SIGTERM", low=0, high=3600)
    drain_wait_s: float = _setting(
        0.0, "seconds after SIGTERM in which new work is still taken, for load balancers to notice", low=0, high=600
    )
    watchdog_s: float = _setting(
        60.0,
        "seconds without a step of a busy engine after which /livez fails, and twice that the process",
        low=0.1,
        high=86400,
    )
    exit_on_stdin_eof: bool = _setting(False, "shut down when stdin closes (the parent process is gone)")

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            _check(item, getattr(self, item.name), item.name)
        has_keys = self.api_keys_file or self.database not in ("", "none")
        if not (self.allow_anonymous or has_keys or is_loopback(self.host)):
            raise SettingsError(
                f"refusing to listen on {self.host} without API keys: set --database (MIDFILL_DATABASE) and make keys "
                "with midfill-serve keys create, set --api-keys-file (MIDFILL_API_KEYS_FILE), or pass "
                "--allow-anonymous to serve everyone who can reach it"
            )

    def public(self) -> dict[str, Any]:
        """The effective values as JSON-ready data for `/info`, URLs without their passwords."""
        return {
            name: without_password(value) if isinstance(value, str) else value
            for name, value in dataclasses.asdict(self).items()
        }


def without_password(url: str) -> str:
    """`url` for people and logs; rather too little of it is left than too much. Other text stays as it is."""
    return _PASSWORD.sub(lambda match: f"{match[1]}:***@" if match[2] is None else "password=***", url)


def is_loopback(host: str) -> bool:
    """True when only this machine can reach a listener on `host`; of host names only localhost is trusted."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Settings from flags (without the program name), environment and the TOML file that they name.

    Raises SettingsError for an unknown key, a bad value or an unreadable file. `--help` exits the process.
    """
    fields = {item.name: item for item in dataclasses.fields(Settings)}
    flags = {name: text for name, text in vars(_parser().parse_args(argv)).items() if text is not None}
    config = flags.pop("config", environ.get("MIDFILL_CONFIG", ""))

    values: dict[str, Any] = {}
    for name, value in (_read_file(config) if config else {}).items():
        if name not in fields:
            known = ", ".join(fields)
            raise SettingsError(f"unknown key {name!r} in {config}; known keys are {known}")
        values[name] = _check(fields[name], value, f"{name} in {config}")
    for name, item in fields.items():
        text = environ.get(f"MIDFILL_{name.upper()}", "")
        if text and not (name.endswith("port") and text.startswith("tcp://")):
            values[name] = _check(item, _parse(item, text), f"MIDFILL_{name.upper()}")
    for name, text in flags.items():
        values[name] = _check(fields[name], _parse(fields[name], text), _flag(name))
    return Settings(**values)


def unread(environ: Mapping[str, str]) -> list[str]:
    """One sentence for each MIDFILL_ variable that nobody reads: most of them are misspelt."""
    known = sorted({item.name.upper() for item in dataclasses.fields(Settings)} | _OF_OTHERS)
    found = []
    for variable, text in sorted(environ.items()):
        name = variable.removeprefix("MIDFILL_")
        if name == variable or name in known or text.startswith("tcp://") or _SERVICE_LINK.search(variable):
            continue
        nearest = "".join(f"; is MIDFILL_{near} meant?" for near in difflib.get_close_matches(name, known, 1))
        found.append(f"{variable} is no setting and is ignored{nearest}")
    return found


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="midfill-serve",
        description="Serve code completions over HTTP.",
        epilog="Every setting can also be MIDFILL_<NAME> in the environment or <name> in the TOML file. "
        "Commands: midfill-serve keys | database | events | evaluate-live, each with --help.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings")
    for item in dataclasses.fields(Settings):
        text = f"{item.metadata['help']} (default: {item.default if item.default != '' else 'none'})"
        if isinstance(item.default, bool):
            parser.add_argument(_flag(item.name), action="store_const", const="true", help=text)
        else:
            parser.add_argument(_flag(item.name), metavar=type(item.default).__name__.upper(), help=text)
    return parser


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _read_file(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the configuration file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the configuration file {path} is not valid TOML: {error}") from None


def _parse(item: dataclasses.Field[Any], text: str) -> Any:
    """The typed value of flag or environment text; text that does not parse is left to `_check`."""
    kind = type(item.default)
    if kind is bool and text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    return text


def _check(item: dataclasses.Field[Any], value: Any, source: str) -> Any:
    """`value` when it has the field's type and range, else SettingsError naming `source`."""
    kind, low, high = type(item.default), item.metadata["low"], item.metadata["high"]
    if kind is float and type(value) is int:
        value = float(value)
    choices = item.metadata["choices"]
    if choices:
        fits, allowed = value in choices, f"{', '.join(choices[:-1])} or {choices[-1]}"
    elif kind is bool:
        fits, allowed = type(value) is bool, "true or false"
    elif kind is str:
        fits = type(value) is str and "\0" not in value and bool(value or not item.default)
        allowed = "a non-empty string"
    else:
        fits = type(value) is kind and low <= value <= high
        allowed = f"{'an integer' if kind is int else 'a number'} from {low} to {high}"
    if not fits:
        raise SettingsError(f"{source} must be {allowed}, not {value!r}")
    return value

"""Every setting of the language server, once: key, type, default and one line of documentation.

`describe()` is what package.json, the Neovim plugin and the docs are tested against.
Over 400 lines because it is one table: who looks for a setting finds it here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any
from urllib.parse import urlsplit

LOCAL = "local"

# Who may set it. What names a program, a key or a proxy is the user's alone ("machine"): a repository that one opens
# must not run anything or redirect code. "resource" may differ from folder to folder; the server asks for these by
# document, and takes the others from no folder ("window").
MACHINE, WINDOW, RESOURCE = "machine", "window", "resource"


def _setting(
    key: str,
    kind: str,
    default: Any,
    doc: str,
    *,
    enum: tuple[str, ...] = (),
    minimum: int | None = None,
    maximum: int | None = None,
    scope: str = "window",
    secret: bool = False,
) -> Any:
    metadata = {
        "key": key, "type": kind, "doc": doc, "enum": enum, "minimum": minimum, "maximum": maximum, "scope": scope,
    }  # fmt: skip
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """The effective settings. Field names are the keys in snake_case: `tls.caBundle` is `tls_ca_bundle`."""

    endpoint: str = _setting(
        "endpoint",
        "string",
        LOCAL,
        'Where completions come from: "local" (a service on this machine), or the URL of a Midfill service.',
        scope=MACHINE,
    )
    fallback_endpoints: tuple[str, ...] = _setting(
        "fallbackEndpoints",
        "array",
        (),
        "URLs of further services, asked in this order while those before them do not answer.",
        scope=MACHINE,
    )
    enable: bool = _setting("enable", "boolean", True, "Show completions.", scope=RESOURCE)
    token: str = _setting(
        "token",
        "string",
        "",
        "API key of the service. Prefer the environment variable MIDFILL_TOKEN, tokenFile or tokenCommand: "
        "settings files get shared.",
        scope=MACHINE,
        secret=True,
    )
    token_file: str = _setting(
        "tokenFile",
        "string",
        "",
        "File that holds the API key; it must be readable by you alone (mode 0600).",
        scope=MACHINE,
    )
    token_command: tuple[str, ...] = _setting(
        "tokenCommand",
        "array",
        (),
        'Program and arguments that print the API key, for example ["pass", "show", "midfill"]; run when the key '
        "is needed first, and again when the service refuses it.",
        scope=MACHINE,
    )
    tls_ca_bundle: str = _setting(
        "tls.caBundle",
        "string",
        "",
        "PEM file with certificate authorities to trust besides those of the operating system.",
        scope=MACHINE,
    )
    tls_client_cert: str = _setting(
        "tls.clientCert",
        "string",
        "",
        "PEM file with the certificate that tells the service who you are.",
        scope=MACHINE,
    )
    tls_client_key: str = _setting(
        "tls.clientKey",
        "string",
        "",
        "PEM file with the private key of tls.clientCert, without a passphrase; not needed if that file holds both.",
        scope=MACHINE,
    )
    proxy: str = _setting(
        "proxy",
        "string",
        "",
        "URL of an HTTP proxy; empty means that HTTPS_PROXY and HTTP_PROXY decide. Hosts in NO_PROXY and this machine "
        "are asked without it.",
        scope=MACHINE,
    )
    local_idle_minutes: int = _setting(
        "localIdleMinutes",
        "integer",
        10,
        "Minutes that the service on this machine goes on after the last editor was closed.",
        minimum=0,
        maximum=1440,
    )
    trigger: str = _setting(
        "trigger",
        "string",
        "automatic",
        "Complete while you type, or only when asked by hand.",
        enum=("automatic", "manual"),
        scope=RESOURCE,
    )
    debounce_ms: int = _setting(
        "debounceMs",
        "integer",
        20,
        "Milliseconds without typing before a completion is requested; several times as long while the service is "
        "loaded, or slower than you type.",
        minimum=0,
        maximum=5000,
        scope=RESOURCE,
    )
    show_delay_ms: int = _setting(
        "showDelayMs",
        "integer",
        0,
        "Milliseconds without typing before a new completion is shown, however early it is there.",
        minimum=0,
        maximum=10000,
        scope=RESOURCE,
    )
    request_timeout_ms: int = _setting(
        "requestTimeoutMs",
        "integer",
        5000,
        "Milliseconds after which a request to the service is given up.",
        minimum=100,
        maximum=60000,
    )
    mode: str = _setting(
        "mode",
        "string",
        "auto",
        "Complete the rest of the line, a whole block, or decide by the place of the cursor.",
        enum=("auto", "line", "block"),
        scope=RESOURCE,
    )
    max_lines: int = _setting(
        "maxLines", "integer", 12, "Longest completion shown, in lines.", minimum=1, maximum=200, scope=RESOURCE
    )
    max_tokens: int = _setting(
        "maxTokens",
        "integer",
        128,
        "Most tokens the service may generate for one completion.",
        minimum=1,
        maximum=512,
        scope=RESOURCE,
    )
    min_confidence: int = _setting(
        "minConfidence",
        "integer",
        30,
        "Hide completions to which the model gives less than this many per cent a token, on average; "
        "0 shows them all, and so does asking by hand.",
        minimum=0,
        maximum=100,
        scope=RESOURCE,
    )
    ask_ahead: bool = _setting(
        "askAhead",
        "boolean",
        True,
        "While a completion is displayed, ask for what comes after it, unless the service is busy.",
        scope=RESOURCE,
    )
    complete_comments: bool = _setting(
        "completeComments", "boolean", True, "Show completions in comments.", scope=RESOURCE
    )
    complete_strings: bool = _setting(
        "completeStrings", "boolean", True, "Show completions in strings.", scope=RESOURCE
    )
    feedback: bool = _setting(
        "feedback",
        "boolean",
        True,
        "Tell the service what became of completions: ids and numbers of characters, never code.",
        scope=RESOURCE,
    )
    context_enable: bool = _setting(
        "context.enable",
        "boolean",
        True,
        "Send parts of other open files, recent edits and signatures of imported names along.",
        scope=RESOURCE,
    )
    min_characters: int = _setting(
        "minCharacters",
        "integer",
        1,
        "Hide completions shorter than this, such as a lone bracket, unless asked by hand.",
        minimum=1,
        maximum=100,
        scope=RESOURCE,
    )
    leading_whitespace: bool = _setting(
        "leadingWhitespace",
        "boolean",
        True,
        "Complete where nothing but whitespace stands left of the cursor; switched off, Tab always indents there.",
        scope=RESOURCE,
    )
    pause_on_battery: bool = _setting(
        "pauseOnBattery",
        "boolean",
        False,
        "No completions while the computer runs on battery, except when asked by hand.",
    )
    disabled_languages: tuple[str, ...] = _setting(
        "disabledLanguages",
        "array",
        (),
        'Language identifiers without completions, for example ["markdown", "plaintext"]; '
        '["*", "!python"] leaves Python alone.',
        scope=RESOURCE,
    )
    disabled_globs: tuple[str, ...] = _setting(
        "disabledGlobs",
        "array",
        (),
        "Files without completions, besides those that usually hold secrets; "
        'a pattern starting with "!" allows a file again, also one that .gitignore or .midfillignore names.',
        scope=RESOURCE,
    )
    outside_workspace: bool = _setting(
        "outsideWorkspace",
        "boolean",
        False,
        "Complete in files outside the folders that are open in the editor, too.",
        scope=MACHINE,
    )
    redact_secrets: bool = _setting(
        "redactSecrets",
        "boolean",
        True,
        "Replace keys, passwords and tokens by x before anything is sent.",
        scope=MACHINE,
    )


def describe() -> list[dict[str, Any]]:
    """All settings as JSON-ready objects: key (`midfill.…`), type (JSON schema), default, doc, scope, and where
    they apply enum, minimum, maximum, items."""
    rows = []
    for f in fields(Settings):
        default = list(f.default) if isinstance(f.default, tuple) else f.default
        row = {
            "key": f"midfill.{f.metadata['key']}",
            "type": f.metadata["type"],
            "default": default,
            "doc": f.metadata["doc"],
            "scope": f.metadata["scope"],
        }
        if f.metadata["type"] == "array":
            row["items"] = {"type": "string"}
        if f.metadata["enum"]:
            row["enum"] = list(f.metadata["enum"])
        for bound in ("minimum", "maximum"):
            if f.metadata[bound] is not None:
                row[bound] = f.metadata[bound]
        rows.append(row)
    return rows


def flatten(raw: object) -> dict[str, Any]:
    """The settings in what an editor sent: `{midfill: {…}}`, `{"midfill.endpoint": …}` or flat keys; sections as
    objects (`{tls: {caBundle: …}}`) or as dotted keys."""
    if not isinstance(raw, Mapping):
        return {}
    section = raw.get("midfill", raw)
    if not isinstance(section, Mapping):
        return {}
    return dict(_leaves(section, ""))


def _leaves(section: Mapping[Any, Any], above: str) -> Iterator[tuple[str, Any]]:
    """Keys with a dot may also come as sections within sections."""
    for key, value in section.items():
        name = above + str(key).removeprefix("midfill.")
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def of_folder(section: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder may decide for itself of its section, into which editors put all that is in effect there; unknown
    keys stay, for `parse` to name them."""
    scopes = {f.metadata["key"]: f.metadata["scope"] for f in fields(Settings)}
    return {key: value for key, value in section.items() if scopes.get(key, RESOURCE) == RESOURCE}


def parse(raw: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings from camelCase keys, and one sentence for each value that was refused.

    A refused value leaves its default in place. `null` means "not set", as editors send it for unset keys.
    MIDFILL_TOKEN in `environment` wins over a token in `raw`.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    known = {f.metadata["key"]: f for f in fields(Settings)}
    for key, value in raw.items():
        if value is None:
            continue
        if key not in known:
            problems.append(f"midfill.{key}: there is no such setting; it is ignored")
            continue
        metadata = known[key].metadata
        problem = _problem(metadata, value)
        if problem:
            default = known[key].default
            shown = list(default) if isinstance(default, tuple) else default
            problems.append(f"midfill.{key}: {problem}; using the default {shown!r}")
            continue
        values[known[key].name] = tuple(value) if metadata["type"] == "array" else value
    if token := environment.get("MIDFILL_TOKEN", "").strip():
        values["token"] = token
    if not re.fullmatch(r"[!-~]*", values.get("token", "")):
        problems.append("midfill.token or MIDFILL_TOKEN: expected printable ASCII; it is not used")
        del values["token"]
    if "endpoint" in values:
        values["endpoint"] = _base_url(values["endpoint"])
    values["fallback_endpoints"] = tuple(map(_base_url, values.get("fallback_endpoints", ())))
    return Settings(**values), problems


def misspelt(environment: Mapping[str, str]) -> list[str]:
    """One sentence for each variable that is nearly called MIDFILL_TOKEN, the only one that is read."""
    near = difflib.get_close_matches("MIDFILL_TOKEN", environment, 9, 0.83)
    return [f"{name}: it is ignored; is MIDFILL_TOKEN meant?" for name in near if name != "MIDFILL_TOKEN"]


def _base_url(url: str) -> str:
    """Without the /v1 that OpenAI's clients want there."""
    return url.rstrip("/").removesuffix("/v1")


def _problem(metadata: Mapping[str, Any], value: object) -> str | None:
    kind = metadata["type"]
    if not _has_type(kind, value):
        expected = "array of strings" if kind == "array" else kind
        # The value itself may be a token that slipped into the wrong key: only its type is named.
        return f"expected {expected}, got {type(value).__name__}"
    if metadata["enum"] and value not in metadata["enum"]:
        return f"expected one of {', '.join(metadata['enum'])}"
    low, high = metadata["minimum"], metadata["maximum"]
    if isinstance(value, int) and low is not None and not low <= value <= high:
        return f"expected {low} to {high}, got {value}"
    if metadata["key"] == "endpoint" and not (value == LOCAL or _is_url(str(value))):
        return 'expected "local" or a URL starting with http:// or https://'
    if metadata["key"] == "fallbackEndpoints" and not all(map(_is_url, value)):  # type: ignore[call-overload]
        return "expected URLs starting with http:// or https://"
    if metadata["key"] == "proxy" and value and not _is_url(str(value)):
        return "expected a URL starting with http:// or https://"
    return None


def _has_type(kind: str, value: object) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str)
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def origins(layers: Mapping[str, Mapping[str, Any]], environment: Mapping[str, str]) -> dict[str, str]:
    """Where each setting that is not at its default comes from: key to the name of the last of `layers` that has
    it; for the token, whether the environment does."""
    where = {key: name for name, layer in layers.items() for key, value in layer.items() if value is not None}
    if environment.get("MIDFILL_TOKEN", "").strip():
        where["token"] = "MIDFILL_TOKEN"  # noqa: S105
    return where


def with_enable(settings: Settings, enable: bool) -> Settings:
    """The same settings, switched on or off."""
    return replace(settings, enable=enable)

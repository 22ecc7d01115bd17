"""Each LSP method as four clients speak it: their capabilities are written by hand after the real ones.

pytest-lsp checks every answer against what the client declared.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_lsp
from lsprotocol import types
from lsprotocol.converters import get_converter
from pygls.exceptions import JsonRpcException
from pytest_lsp import ClientServerConfig, LanguageClient

from tests.lsp_server.scripted_service import ScriptedService
from tests.lsp_server.session import ROOT, Session
from tests.tries import tries

CLIENTS = Path(__file__).parent / "clients"
INLINE = {"vscode": True, "neovim": True, "emacs": True, "old": False}
URI = "file:///project/a.py"
ENVIRONMENT = {**os.environ, "XDG_STATE_HOME": f"{os.environ['XDG_DATA_HOME']}/state", "MIDFILL_TOKEN": ""}

pytestmark = pytest.mark.filterwarnings("error::pytest_lsp.LspSpecificationWarning")


def capabilities(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((CLIENTS / f"{name}.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def team() -> Iterator[ScriptedService]:
    """The service of all clients here."""
    service = ScriptedService()
    yield service
    service.stop()


@pytest.fixture
def kind(client: LanguageClient) -> str:
    """Which client it is."""
    name: str = client.kind
    return name


# lsp-mode's `null` cannot be had from typed capabilities: see further down.
@pytest_lsp.fixture(
    scope="module",
    loop_scope="module",
    params=["vscode", "neovim", "old"],
    config=ClientServerConfig([sys.executable, "-m", "lsp_server"], server_env=ENVIRONMENT),
)
async def client(
    request: pytest.FixtureRequest, lsp_client: LanguageClient, team: ScriptedService
) -> AsyncIterator[None]:
    kind = lsp_client.kind = request.param
    settings = {"endpoint": team.url, "debounceMs": 0}
    lsp_client.set_configuration(settings, section="midfill")
    declared = get_converter().structure(capabilities(kind), types.ClientCapabilities)
    params = types.InitializeParams(
        capabilities=declared,
        root_uri="file:///project",
        initialization_options=settings,
        workspace_folders=[types.WorkspaceFolder("file:///project", "project")],
    )
    lsp_client.statuses = []

    @lsp_client.feature("didChangeStatus")
    def status(state: Any) -> None:
        lsp_client.statuses.append(state)

    @lsp_client.feature(types.CLIENT_REGISTER_CAPABILITY)
    def register(params: types.RegistrationParams) -> None:
        lsp_client.registered = [registration.method for registration in params.registrations]

    lsp_client.registered = []
    lsp_client.answer = await lsp_client.initialize_session(params)
    while not lsp_client.statuses:  # connected
        await asyncio.sleep(0.02)
    yield
    await lsp_client.shutdown_session()


@pytest.fixture
def opened(client: LanguageClient) -> Iterator[None]:
    """`URI` is open and reads `x = `."""
    item = types.TextDocumentItem(URI, "python", 1, "s = '😀'\nx = \n")
    client.text_document_did_open(types.DidOpenTextDocumentParams(item))
    yield
    client.text_document_did_close(types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(URI)))


async def inline(client: LanguageClient, line: int = 1, character: int = 4) -> list[types.InlineCompletionItem]:
    answer = await client.text_document_inline_completion_async(
        types.InlineCompletionParams(
            types.InlineCompletionContext(types.InlineCompletionTriggerKind.Automatic),
            types.TextDocumentIdentifier(URI),
            types.Position(line, character),
        )
    )
    assert isinstance(answer, types.InlineCompletionList), "null would leave old ghost text in Neovim"
    return list(answer.items)


async def popup(client: LanguageClient, may_be_late: bool) -> list[str]:
    """What the popup shows; one that `may_be_late` comes without, and is asked for again, until it is there."""
    params = types.CompletionParams(types.TextDocumentIdentifier(URI), types.Position(1, 4))
    for _ in tries():
        answer = await client.text_document_completion_async(params)
        if answer.items or not may_be_late:
            break
    return [item.label for item in answer.items]


async def command(client: LanguageClient, name: str, *arguments: Any) -> Any:
    return await client.workspace_execute_command_async(types.ExecuteCommandParams(name, list(arguments)))


@pytest.mark.asyncio(loop_scope="module")
async def test_initialize(client: LanguageClient, kind: str) -> None:
    offered = client.answer.capabilities
    first = capabilities(kind).get("general", {}).get("positionEncodings", ["utf-16"])[0]
    assert offered.position_encoding == first
    assert offered.inline_completion_provider is not None
    assert offered.completion_provider is not None
    assert offered.text_document_sync.change == types.TextDocumentSyncKind.Incremental
    assert offered.text_document_sync.open_close
    commands = {"midfill.accepted", "midfill.toggle", "midfill.snooze", "midfill.showLog", "midfill.doctor"}
    assert commands <= set(offered.execute_command_provider.commands)


@pytest.mark.asyncio(loop_scope="module")
async def test_initialized_registers_only_where_that_is_possible(client: LanguageClient, kind: str) -> None:
    await command(client, "midfill.showLog")
    expected = ["workspace/didChangeConfiguration"] if kind == "vscode" else []
    assert client.registered == expected


@pytest.mark.asyncio(loop_scope="module")
async def test_inline_completion(client: LanguageClient, opened: None, kind: str) -> None:
    if not INLINE[kind]:
        pytest.skip("this client does not ask")
    (item,) = await inline(client)
    assert item.insert_text == "pass"
    assert item.range == types.Range(types.Position(1, 4), types.Position(1, 4))
    assert item.command is not None and item.command.command == "midfill.accepted"


@pytest.mark.asyncio(loop_scope="module")
async def test_completion_is_the_way_of_clients_without_inline_completion(
    client: LanguageClient, opened: None, kind: str
) -> None:
    assert await popup(client, may_be_late=not INLINE[kind]) == ([] if INLINE[kind] else ["pass"])


@pytest.mark.asyncio(loop_scope="module")
async def test_did_change_counts_in_the_clients_units(
    client: LanguageClient, opened: None, kind: str, team: ScriptedService
) -> None:
    before = len(team.completions)
    # behind the emoji: 4 bytes in UTF-8, 2 units in UTF-16
    character = {"utf-8": 9, "utf-16": 7}[client.answer.capabilities.position_encoding]
    place = types.Position(0, character)
    change = types.TextDocumentContentChangePartial(types.Range(place, place), "!")
    client.text_document_did_change(
        types.DidChangeTextDocumentParams(types.VersionedTextDocumentIdentifier(2, URI), [change])
    )
    if INLINE[kind]:
        await inline(client)
    else:
        await popup(client, may_be_late=True)
    assert team.completions[before].body["prompt"] == "s = '😀!'\nx = "


@pytest.mark.asyncio(loop_scope="module")
async def test_closed_document_has_nothing(client: LanguageClient) -> None:
    assert await inline(client) == []


@pytest.mark.asyncio(loop_scope="module")
async def test_accepted_shown_and_partially_accepted(
    client: LanguageClient, opened: None, team: ScriptedService
) -> None:
    # Each client has its own id: they share the service.
    mine = f"cmpl-{client.kind}"
    shown = {"item": {"insertText": "pass", "command": {"title": "", "command": "", "arguments": [mine]}}}
    client.protocol.notify("textDocument/didShowCompletion", shown)
    client.protocol.notify("textDocument/didPartiallyAcceptCompletion", {**shown, "acceptedLength": 2})
    await command(client, "midfill.accepted", mine)

    def told() -> set[str]:
        return {event["event"] for event in team.events if event["completion_id"] == mine}

    await asyncio.to_thread(team.wait, lambda: len(told()) >= 3)
    assert told() == {"shown", "partially_accepted", "accepted"}


@pytest.mark.asyncio(loop_scope="module")
async def test_did_focus(client: LanguageClient, opened: None) -> None:
    client.protocol.notify("textDocument/didFocus", {"textDocument": {"uri": "file:///project/.env"}})
    await command(client, "midfill.showLog")
    assert client.statuses[-1].kind == "Inactive"
    client.protocol.notify("textDocument/didFocus", {"textDocument": {"uri": URI}})
    await command(client, "midfill.showLog")
    assert client.statuses[-1].kind == "Normal"


@pytest.mark.asyncio(loop_scope="module")
async def test_toggle_and_snooze(client: LanguageClient, opened: None) -> None:
    assert await command(client, "midfill.toggle") is False
    assert client.statuses[-1].kind == "Inactive"
    assert await command(client, "midfill.toggle") is True
    assert "snoozed until" in await command(client, "midfill.snooze")
    assert client.statuses[-1].kind == "Inactive"
    assert await command(client, "midfill.snooze", 0) == "not snoozed"
    assert client.statuses[-1].kind == "Normal"


@pytest.mark.asyncio(loop_scope="module")
async def test_doctor(client: LanguageClient, opened: None) -> None:
    report = await command(client, "midfill.doctor")
    assert "a completion of 4 characters came back" in report
    assert "midfill.debounceMs = 0" in report


@pytest.mark.asyncio(loop_scope="module")
async def test_did_change_configuration(client: LanguageClient, opened: None, kind: str, team: ScriptedService) -> None:
    off = {"endpoint": team.url, "debounceMs": 0, "enable": False}
    client.set_configuration(off, section="midfill")
    client.workspace_did_change_configuration(types.DidChangeConfigurationParams({"midfill": off}))
    assert "switched off" in await _until(client, "Inactive")
    on = {**off, "enable": True}
    client.set_configuration(on, section="midfill")
    client.workspace_did_change_configuration(types.DidChangeConfigurationParams({"midfill": on}))
    await _until(client, "Normal")


async def _until(client: LanguageClient, kind: str) -> str:
    for _ in range(2000):
        await command(client, "midfill.showLog")
        if client.statuses[-1].kind == kind:
            return str(client.statuses[-1].message)
        await asyncio.sleep(0.02)
    raise AssertionError(f"never {kind}")


@pytest.mark.asyncio(loop_scope="module")
async def test_cancelled_request_ends_with_the_standard_code(
    client: LanguageClient, opened: None, kind: str, team: ScriptedService
) -> None:
    if not INLINE[kind]:
        pytest.skip("this client does not ask")
    team.answer("slow", held=threading.Event())
    before = len(team.completions)
    params = types.InlineCompletionParams(
        types.InlineCompletionContext(types.InlineCompletionTriggerKind.Automatic),
        types.TextDocumentIdentifier(URI),
        types.Position(1, 4),
    )
    asked = asyncio.ensure_future(client.protocol.send_request_async("textDocument/inlineCompletion", params, "no-1"))
    await asyncio.to_thread(team.wait, lambda: len(team.completions) > before)
    client.cancel_request(types.CancelParams("no-1"))
    with pytest.raises(JsonRpcException) as caught:
        await asked
    assert caught.value.code == types.LSPErrorCodes.RequestCancelled
    team.answer("pass")
    assert client.messages == [], "no popup"


@pytest.mark.asyncio(loop_scope="module")
async def test_no_popups_at_all(client: LanguageClient) -> None:
    assert client.messages == []
    assert client.error is None


def emacs(server_env: dict[str, str], service: ScriptedService) -> Session:
    session = Session.start(env=server_env, cwd=ROOT)
    declared = capabilities("emacs")
    encodings = declared.pop("general")["positionEncodings"]
    session.answers["workspace/configuration"] = lambda params: (
        [{"endpoint": service.url, "debounceMs": 0}] * len(params["items"])
    )
    session.initialize(tuple(encodings), declared)
    session.wait_notification("workspace/configuration")
    return session


def test_lsp_mode_declares_null_and_asks_all_the_same(server_env: dict[str, str], service: ScriptedService) -> None:
    with emacs(server_env, service) as session:
        session.open("file:///a.py", "s = '😀'; x = ")
        place = {"textDocument": {"uri": "file:///a.py"}, "position": {"line": 0, "character": 13}}
        for _ in tries():
            items = session.request("textDocument/completion", place)["items"]
            if items:  # else it came too late for a popup
                break
        assert [item["label"] for item in items] == ["pass"], "it may as well be a client that never asks"
        (item,) = session.complete("file:///a.py", 0, 13)
        assert item["insertText"] == "pass"
        assert item["range"]["start"] == {"line": 0, "character": 13}
        assert session.request("textDocument/completion", place)["items"] == [], "from now on not twice"
        assert session.notifications("window/showMessage") == []


def test_folders_with_settings_of_their_own(
    server_env: dict[str, str], service: ScriptedService, tmp_path: Path
) -> None:
    asked: list[Any] = []
    quiet = tmp_path / "quiet"
    loud = tmp_path / "loud"

    def settings(params: dict[str, Any]) -> list[dict[str, Any]]:
        asked.append(params["items"])
        base = {"endpoint": service.url, "debounceMs": 0}
        return [{**base, "enable": item.get("scopeUri") != quiet.as_uri()} for item in params["items"]]

    with Session.start(env=server_env) as session:
        session.answers["workspace/configuration"] = settings
        folders = [{"uri": folder.as_uri(), "name": folder.name} for folder in (loud, quiet)]
        declared = capabilities("vscode")
        session.request(
            "initialize", {"processId": None, "rootUri": None, "capabilities": declared, "workspaceFolders": folders}
        )
        session.notify("initialized", {})
        session.wait_notification("workspace/configuration")
        for folder in (loud, quiet):
            session.open((folder / "a.py").as_uri(), "x = \n")
        assert [item.get("scopeUri") for item in asked[0]] == [None, loud.as_uri(), quiet.as_uri()]
        assert session.complete((loud / "a.py").as_uri(), 0, 4) != []
        assert session.complete((quiet / "a.py").as_uri(), 0, 4) == []
        removed = {"event": {"added": [], "removed": folders[1:]}}
        session.notify("workspace/didChangeWorkspaceFolders", removed)
        assert session.complete((quiet / "a.py").as_uri(), 0, 4) == [], "now it is outside of the workspace"
        assert "midfill.outsideWorkspace" in session.command("midfill.doctor")

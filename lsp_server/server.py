"""Wiring: LSP messages to `Completer` and the parts around it. No decisions here."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from lsp_server import doctor, logs
from lsp_server.answers import ACCEPTED, to_list
from lsp_server.choices import Choices
from lsp_server.client import ContextFile
from lsp_server.completer import Answer, Completer
from lsp_server.configuration import Configuration
from lsp_server.connection import Connection
from lsp_server.context.gatherer import Gatherer
from lsp_server.documents import Document, Mirror, Snapshot, file_of, snapshot
from lsp_server.editor_settings import EditorSettings
from lsp_server.feedback import Feedback
from lsp_server.idle import Idle
from lsp_server.journal import Journal
from lsp_server.memory import settle
from lsp_server.network import Network
from lsp_server.popup import LONGEST_WAIT_S, to_popup
from lsp_server.power import Power, on_battery
from lsp_server.progress import StartProgress
from lsp_server.protocol import ForgetfulProtocol
from lsp_server.quiet import Quiet
from lsp_server.readiness import Readiness
from lsp_server.safety import FileRules
from lsp_server.status import Status
from lsp_server.suggestions import Suggestions

log = logging.getLogger(__name__)

_SNOOZE_MINUTES, _LONGEST_SNOOZE_MINUTES = 30, 7 * 24 * 60
_IDLE_S = 3.0
_NOTEBOOKS = types.NotebookDocumentSyncOptions(
    notebook_selector=[
        types.NotebookDocumentFilterWithCells(notebook="*", cells=[types.NotebookCellLanguage(language="*")])
    ]
)


class MidfillServer(LanguageServer):
    """pygls' server with our parts. `version` is reported to the client."""

    def __init__(self, version: str) -> None:
        super().__init__("midfill", version, protocol_cls=ForgetfulProtocol, notebook_document_sync=_NOTEBOOKS)
        self.status = Status(lambda state: self.protocol.notify("didChangeStatus", state))
        self.journal = Journal(time.time)
        self.configuration = Configuration(os.environ)
        self.editor_settings = EditorSettings(self, self.configuration, self.apply)
        starting = StartProgress(self)
        self.connection = Connection(self.status, logs.service_log_file(), starting=starting.told)
        self.rules = FileRules(time.monotonic)
        power = Power(time.monotonic, on_battery, ThreadPoolExecutor(1))
        self.quiet = Quiet(time.monotonic, lambda: self.suggestions.show_state(), power)

        def may_send(file: str) -> bool:
            return self.suggestions.may_send(file)

        self.gatherer = Gatherer(lambda: self.mirror.open_documents(), lambda: self.folders, may_send)
        self.completer = Completer(
            self.connection, self.status, self.journal, time.monotonic, self.configuration.of, self._context
        )
        self.readiness = Readiness(self.connection, self.gatherer, self.completer, self.configuration.of, may_send)
        self._idle = Idle(_IDLE_S, self.readiness.get_ready)
        self.feedback = Feedback(
            lambda: self.connection.client, self.text_of, lambda uri: self.configuration.of(uri).feedback
        )
        choices = Choices(self.connection, self.completer, self.journal, self.configuration.of)
        self.suggestions = Suggestions(
            self.completer,
            choices,
            self.configuration,
            self.rules,
            self.quiet,
            self.feedback,
            self.status,
            self.journal,
            lambda: self.folders,
            self.text_of,
            self.language_of,
        )
        self.knows_inline = False

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Log it. pygls would open a popup."""
        logs.log_internal_error(log)

    @property
    def mirror(self) -> Mirror:
        """The open documents."""
        assert isinstance(self.workspace, Mirror)
        return self.workspace

    @property
    def folders(self) -> list[str]:
        """The workspace's roots, as paths."""
        uris = [folder.uri for folder in self.workspace.folders.values()]
        # The root that editors named at the start is one of their folders, and may have been taken out since.
        if not uris and self.workspace.root_uri:
            uris.append(self.workspace.root_uri)
        return [file_of(uri) for uri in uris]

    def text_of(self, uri: str) -> str | None:
        """The text of an open document."""
        document = self.mirror.open_document(uri)
        return None if document is None else document.source

    def language_of(self, uri: str) -> str | None:
        """The language identifier of an open document."""
        document = self.mirror.open_document(uri)
        return None if document is None else document.language_id

    def changed(self, uri: str, line: int) -> None:
        """A document was edited around `line`."""
        document = self.mirror.open_document(uri)
        if document is not None:
            self.completer.changed(document.uri, document.source)
            self.feedback.changed(document.uri, document.source)
            self.gatherer.edited(document.uri, line)
            self._idle.touch(document.uri)

    def used(self, uri: str) -> None:
        """A document was opened or got the focus."""
        document = self.mirror.open_document(uri)
        if document is not None:
            self.gatherer.used(document.uri)
            self.readiness.get_ready(document.uri)

    def closed(self, uri: str) -> None:
        """A document, or a cell of a notebook, was closed."""
        self.completer.closed(uri)
        self.gatherer.closed(uri)
        self.quiet.closed(uri)
        self.suggestions.closed(uri)

    def snapshot(self, document: Document, position: types.Position) -> Snapshot:
        """The document as it is now, with the notebook around it."""
        return snapshot(document, position, self.folders, self.mirror.cells_around(document))

    async def complete(self, request: Snapshot, arrived: float, by_hand: bool) -> tuple[Answer, ...]:
        """The completions for `request`; none if there is nothing to show."""
        await self.editor_settings.known.wait()
        self.readiness.ensure(request.uri)
        return await self.suggestions.complete(request, arrived, by_hand)

    def snooze(self, minutes: object) -> str:
        """Keep quiet for so many minutes, 0 ends it; what to tell the user."""
        if not isinstance(minutes, int | float) or not 0 <= minutes <= _LONGEST_SNOOZE_MINUTES:
            return f"midfill.snooze takes minutes: 0 to {_LONGEST_SNOOZE_MINUTES}"
        self.quiet.snooze(minutes)
        return self.quiet.paused(self.configuration.settings) or "not snoozed"

    async def apply(self) -> None:
        """Put the configuration to use."""
        settings = self.configuration.settings
        for problem in self.configuration.problems:
            log.warning("%s", problem)
            self.window_log_message(types.LogMessageParams(types.MessageType.Warning, problem))
        self.completer.reconfigured()
        self.suggestions.show_state()
        await self.connection.apply(settings)

    def _context(self, request: Snapshot) -> tuple[ContextFile, ...]:
        return self.gatherer.gather(request) if self.configuration.of(request.uri).context_enable else ()


def build(version: str) -> MidfillServer:
    """The server with all its handlers, ready for `start_io`."""
    server = MidfillServer(version)
    _lifecycle(server)
    _documents(server)
    _commands(server)
    return server


def _lifecycle(server: MidfillServer) -> None:
    @server.feature(types.INITIALIZE)
    def initialize(params: types.InitializeParams) -> None:
        server.configuration.take_initial(params.initialization_options)
        declared = params.capabilities.text_document
        # some clients ask without declaring it: those are noticed at their first request
        server.knows_inline = declared is not None and declared.inline_completion is not None
        plain = server.workspace
        server.protocol._workspace = Mirror(
            plain.root_uri,
            types.TextDocumentSyncKind.Incremental,
            list(plain.folders.values()),
            plain.position_encoding,
        )

    @server.feature(types.INITIALIZED)
    async def initialized(params: types.InitializedParams) -> None:
        settle()
        workspace = server.client_capabilities.workspace
        changes = workspace.did_change_configuration if workspace else None
        if changes and changes.dynamic_registration:
            method = types.WORKSPACE_DID_CHANGE_CONFIGURATION
            registration = types.Registration("midfill-settings", method, {"section": "midfill"})
            server.client_register_capability(types.RegistrationParams([registration]))
        await server.editor_settings.refresh()

    @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def changed(params: types.DidChangeConfigurationParams) -> None:
        await server.editor_settings.refresh(params.settings)

    @server.feature(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)
    async def folders_changed(params: types.DidChangeWorkspaceFoldersParams) -> None:
        await server.editor_settings.refresh()

    @server.feature(types.SHUTDOWN)
    async def shutdown(params: None) -> None:
        await server.connection.close()


def _documents(server: MidfillServer) -> None:
    # The mirror is kept by pygls' own handlers, which come before these.
    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: types.DidOpenTextDocumentParams) -> None:
        uri = params.text_document.uri
        # Ignore files are read now, so that the first request need not wait for them.
        server.rules.file_refusal(uri, server.folders, server.configuration.of(uri))
        server.suggestions.opened(uri)
        server.used(uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def changed(params: types.DidChangeTextDocumentParams) -> None:
        server.changed(params.text_document.uri, _line_of(params.content_changes))

    @server.feature(types.NOTEBOOK_DOCUMENT_DID_CHANGE)
    def cells_changed(params: types.DidChangeNotebookDocumentParams) -> None:
        cells = params.change.cells
        for text in (cells.text_content or ()) if cells else ():
            server.changed(text.document.uri, _line_of(text.changes))
        for cell in (cells.structure.did_close or ()) if cells and cells.structure else ():
            server.closed(cell.uri)

    @server.feature(types.NOTEBOOK_DOCUMENT_DID_CLOSE)
    def notebook_closed(params: types.DidCloseNotebookDocumentParams) -> None:
        for cell in params.cell_text_documents:
            server.closed(cell.uri)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: types.DidCloseTextDocumentParams) -> None:
        server.closed(params.text_document.uri)

    @server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
    async def complete(params: types.InlineCompletionParams) -> types.InlineCompletionList:
        arrived, document = time.monotonic(), server.mirror.open_document(params.text_document.uri)
        server.knows_inline = True
        if document is None:
            return types.InlineCompletionList(items=[])
        request = server.snapshot(document, params.position)
        by_hand = params.context.trigger_kind == types.InlineCompletionTriggerKind.Invoked
        try:
            answers = await server.complete(request, arrived, by_hand)
            return to_list(answers, request, server.mirror.open_document(request.uri))
        except Exception:  # an error answer would open a popup in VS Code, at each keystroke
            logs.log_internal_error(log)
            return types.InlineCompletionList(items=[])

    @server.feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions())
    async def fall_back(params: types.CompletionParams) -> types.CompletionList:
        arrived, document = time.monotonic(), server.mirror.open_document(params.text_document.uri)
        nothing = types.CompletionList(is_incomplete=False, items=[])
        if document is None or server.knows_inline:
            return nothing
        request = server.snapshot(document, params.position)
        try:
            async with asyncio.timeout(LONGEST_WAIT_S):
                answers = await server.complete(request, arrived, by_hand=False)
        except TimeoutError:
            answers = ()
        except Exception:  # as above
            logs.log_internal_error(log)
            return nothing
        return to_popup(
            answers[0] if answers else None, request, server.mirror.open_document(request.uri), _popup_item(server)
        )

    @server.feature("textDocument/didShowCompletion")
    async def shown(params: Any) -> None:
        server.feedback.shown(_completion_id(params))
        server.completer.displayed(_completion_id(params))

    @server.feature("textDocument/didPartiallyAcceptCompletion")
    async def partially_accepted(params: Any) -> None:
        length = getattr(params, "acceptedLength", None)
        server.feedback.partially_accepted(_completion_id(params), length if isinstance(length, int) else None)

    @server.feature("textDocument/didFocus")
    async def focused(params: Any) -> None:
        uri = str(getattr(getattr(params, "textDocument", None), "uri", ""))
        server.suggestions.focused(uri)
        await server.editor_settings.known.wait()
        server.used(uri)
        await server.connection.warm_up()


def _commands(server: MidfillServer) -> None:
    @server.command(ACCEPTED)
    async def accepted(*arguments: Any) -> None:
        server.feedback.accepted(str(arguments[0]) if arguments else "")

    @server.command("midfill.toggle")
    async def toggle() -> bool:
        state = server.configuration.toggle()
        await server.apply()
        return state

    @server.command("midfill.snooze")
    async def snooze(*arguments: Any) -> str:
        return server.snooze(arguments[0] if arguments else _SNOOZE_MINUTES)

    @server.command("midfill.showLog")
    async def show_log() -> str:
        path = logs.log_file()
        window = server.client_capabilities.window
        if window and window.show_document and window.show_document.support:
            server.window_show_document(types.ShowDocumentParams(path.as_uri()))
        return str(path)

    @server.command("midfill.doctor")
    async def examine() -> str:
        now = server.configuration
        lines = doctor.describe_settings(now.settings, now.problems, now.origins)
        if reason := server.connection.unavailable():
            lines.append(f"PROBLEM: {reason}")
        lines += (await doctor.examine_all(server.connection.clients, Network.of(now.settings)))[0]
        lines += doctor.describe_filters(server.journal.filters)
        return "\n".join(lines + doctor.describe_outcomes(server.journal.records()))


def _line_of(changes: Sequence[types.TextDocumentContentChangeEvent]) -> int:
    last = changes[-1] if changes else None
    return last.range.start.line if isinstance(last, types.TextDocumentContentChangePartial) else 0


def _popup_item(server: MidfillServer) -> types.ClientCompletionItemOptions | None:
    declared = server.client_capabilities.text_document
    return declared.completion.completion_item if declared and declared.completion else None


def _completion_id(params: Any) -> str:
    """`params.item.command.arguments[0]`, or "" where a client sends less."""
    try:
        return str(params.item.command.arguments[0])
    except (AttributeError, IndexError, TypeError):
        return ""

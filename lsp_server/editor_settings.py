"""The settings as the editor keeps them: one section for all, and one for each folder that is open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from lsp_server.configuration import Configuration
from lsp_server.editor_requests import within

log = logging.getLogger(__name__)

ANSWER_S = 3.0
"""How long completions wait for the settings; an editor that is busy starting may take longer."""


class EditorSettings:
    """Fills `configuration`; `apply` puts it to use."""

    def __init__(
        self, server: LanguageServer, configuration: Configuration, apply: Callable[[], Awaitable[None]]
    ) -> None:
        self._server = server
        self._configuration = configuration
        self._apply = apply
        self.known = asyncio.Event()  # who types before does not ask twice, so it waits
        self._asked = 0
        self._late: set[asyncio.Task[None]] = set()

    async def refresh(self, pushed: object = None) -> None:
        """Read the settings from where this client keeps them, and put them to use; `pushed` came with a
        notification. An answer that comes late is put to use when it comes, and none while a newer one is awaited:
        until then nothing is known."""
        workspace = self._server.client_capabilities.workspace
        self._asked += 1
        asked = self._asked
        try:
            if workspace and workspace.configuration:
                await self._ask(asked)
            else:
                self._configuration.take_pushed(pushed)
            if asked == self._asked:
                await self._use()
        finally:
            if asked == self._asked:
                self.known.set()

    async def _ask(self, asked: int) -> None:
        folders = [folder.uri for folder in self._server.workspace.folders.values()]
        items = [types.ConfigurationItem(scope, "midfill") for scope in (None, *folders)]
        params = types.ConfigurationParams(items)
        request = self._server.protocol.send_request(types.WORKSPACE_CONFIGURATION, params)
        try:
            answer = await within(ANSWER_S, request)
        except TimeoutError:
            log.warning("the editor has not answered workspace/configuration within %g s", ANSWER_S)
            request.add_done_callback(lambda late: self._take_late(asked, folders, late))
        except Exception as error:  # a client that cannot answer still gets completions, by the defaults
            log.warning("the editor did not answer workspace/configuration (%s)", type(error).__name__)
        else:
            if asked == self._asked:
                self._take(folders, answer)

    def _take_late(self, asked: int, folders: list[str], request: Future[Any]) -> None:
        if request.cancelled() or request.exception() or asked != self._asked:
            return
        self._take(folders, request.result())
        using = asyncio.ensure_future(self._use())
        self._late.add(using)
        using.add_done_callback(self._late.discard)

    def _take(self, folders: list[str], answer: Any) -> None:
        sections = list(answer or ())
        self._configuration.take_pushed(sections[0] if sections else None)
        self._configuration.take_folders(dict(zip(folders, sections[1:], strict=False)))

    async def _use(self) -> None:
        self._configuration.resolve()
        await self._apply()

"""Work-done progress while the local service starts, for clients that show such a thing."""

from __future__ import annotations

import asyncio
import logging
import uuid

from lsprotocol import types
from pygls.lsp.server import LanguageServer

from lsp_server.editor_requests import within

log = logging.getLogger(__name__)

_CREATE_S = 5.0


class StartProgress:
    """One progress at a time: it begins with the start and ends with its success or failure."""

    def __init__(self, server: LanguageServer) -> None:
        self._server = server
        self._starting = False
        self._task: asyncio.Task[None] | None = None
        self._over = asyncio.Event()

    def told(self, starting: bool) -> None:
        """The service is starting, or that has come to an end."""
        window = self._server.client_capabilities.window
        if starting == self._starting or not (window and window.work_done_progress):
            return
        self._starting = starting
        if starting:
            self._over = asyncio.Event()
            self._task = asyncio.ensure_future(self._show(self._over))
        else:
            self._over.set()

    async def _show(self, over: asyncio.Event) -> None:
        progress, token = self._server.work_done_progress, f"midfill-start-{uuid.uuid4().hex}"
        params = types.WorkDoneProgressCreateParams(token)
        try:
            await within(_CREATE_S, self._server.protocol.send_request(types.WINDOW_WORK_DONE_PROGRESS_CREATE, params))
        except Exception as error:  # a client that declines does without
            log.info("the editor shows no progress (%s)", type(error).__name__)
            return
        progress.begin(token, types.WorkDoneProgressBegin("Midfill: starting the local service", cancellable=False))
        await over.wait()
        progress.end(token, types.WorkDoneProgressEnd())

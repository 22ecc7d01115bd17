"""pygls' protocol without its memory of every notification."""

from __future__ import annotations

from typing import Any

from pygls.protocol import LanguageServerProtocol


class ForgetfulProtocol(LanguageServerProtocol):
    """pygls 2.1 keeps the future of each handler, to be able to cancel it, and drops it only with the answer to a
    request. A notification has none: 1 KB stayed behind for every keystroke."""

    def _execute_handler(self, msg_id: Any, *arguments: Any, **named: Any) -> None:
        super()._execute_handler(msg_id, *arguments, **named)
        future = self._request_futures.get(msg_id)
        if future is not None:
            future.add_done_callback(lambda _: self._request_futures.pop(msg_id, None))

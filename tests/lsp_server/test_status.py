"""When the sign of the editor turns."""

from __future__ import annotations

import asyncio
from typing import Any

from lsp_server.status import Status


async def test_only_a_request_that_takes_long_turns_the_sign() -> None:
    sent: list[dict[str, Any]] = []
    status = Status(sent.append)
    status.set("Normal")
    for _ in range(3):
        status.busy(+1)
        status.busy(-1)
    assert [state["busy"] for state in sent] == [False]
    status.busy(+1)
    async with asyncio.timeout(30):
        while len(sent) < 2:
            await asyncio.sleep(0.01)
    status.busy(+1)  # the next takes over
    status.busy(-1)
    status.busy(-1)
    assert [state["busy"] for state in sent] == [False, True, False]

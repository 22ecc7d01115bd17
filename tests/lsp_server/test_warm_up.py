"""The service computes a prompt before the first key is typed."""

from __future__ import annotations

import time
from pathlib import Path

from tests.lsp_server.scripted_service import ScriptedService
from tests.lsp_server.session import AUTOMATIC, Session

OTHER = "def total_of_invoice(invoice, customer):\n    price = invoice.price\n    return price + customer.discount\n"
MAIN = "def total_of_order(order, customer):\n    price = order.price\n    "


def test_focus_has_the_prompt_computed_with_its_new_context(
    server_env: dict[str, str], service: ScriptedService, tmp_path: Path
) -> None:
    service.context_length = 8192
    main, other = (tmp_path / "main.py").as_uri(), (tmp_path / "other.py").as_uri()
    with Session.start(env=server_env) as session:
        session.initialize(root=tmp_path, endpoint=service.url, debounceMs=0)
        session.wait_notification("didChangeStatus")
        session.open(main, MAIN)
        session.complete(main, 2, 4, AUTOMATIC)
        session.open(other, OTHER)
        session.notify("textDocument/didFocus", {"textDocument": {"uri": main}})
        service.wait(lambda: any(call.body.get("priority") == 20 for call in service.completions))
        [warm] = [call.body for call in service.completions if call.body.get("priority") == 20]
        assert (warm["prompt"], warm["max_tokens"]) == (MAIN, 1)
        assert [file["path"] for file in warm["context"]] == ["other.py"]
        session.insert(main, 2, 4, "q")
        session.complete(main, 2, 5, AUTOMATIC)
        asked = service.completions[-1].body
        assert asked["context"] == warm["context"], "what was computed is what is asked with"


def test_focus_has_nothing_computed_in_a_file_that_may_not_be_sent_any_more(
    server_env: dict[str, str], service: ScriptedService, tmp_path: Path
) -> None:
    service.context_length = 8192
    folders = [{"uri": (tmp_path / name).as_uri(), "name": name} for name in ("one", "two")]
    main = (tmp_path / "one" / "main.py").as_uri()
    with Session.start(env=server_env) as session:
        session.initialize(root=tmp_path / "one", endpoint=service.url, debounceMs=0)
        session.notify("workspace/didChangeWorkspaceFolders", {"event": {"added": folders, "removed": []}})
        session.open(main, MAIN)
        assert session.complete(main, 2, 4, AUTOMATIC)
        session.notify("workspace/didChangeWorkspaceFolders", {"event": {"added": [], "removed": folders[:1]}})
        session.notify("textDocument/didFocus", {"textDocument": {"uri": main}})
        session.wait_notification("didChangeStatus", lambda status: status["kind"] == "Inactive")
        time.sleep(1)
        assert [call.body["prompt"] for call in service.completions] == [MAIN]

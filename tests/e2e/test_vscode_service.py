"""The real VS Code and a service that comes, goes and asks for a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.scripted_service import scripted_service
from tests.e2e.vscode_editor import chromium, code_server

pytestmark = pytest.mark.timeout(600)

ADD = "def add(a, b):\n    return a + b\n"


def test_a_key_that_is_wrong_and_a_service_that_goes_and_comes(tmp_path: Path) -> None:
    with scripted_service(key="right") as service, code_server(tmp_path) as server, chromium() as browser:
        port, url = service.server_port, service.url
        service.follow(ADD)
        window = server.window(browser, "start.txt", status="Midfill")
        window.command("Midfill: Use a Team Endpoint")
        window.answer("URL of your service", url)
        window.answer("API key", "wrong")
        window.wait_for_status("starting")
        window.wait_for_status("ready")
        window.open("key.py", "def add(a, b):\n", line=1)
        window.type("    re")
        window.wait_for_status("key")
        window.screenshot("wrong-key")

        window.command("Midfill: Sign In with an API Key")
        window.answer("API key", "right")
        window.wait_for_status("starting")
        window.wait_for_status("ready")
        window.focus_editor()
        window.type("t")
        window.wait_for_ghost("urn a + b")

        service.shutdown()
        service.server_close()
        window.open("gone.py", "def add(a, b):\n", line=1)
        window.type("    re")
        window.wait_for_status("no service answers at")
        window.screenshot("no-service")
        with scripted_service(port, key="right") as again:
            again.follow(ADD)
            window.type("t", delay_ms=0)
            # A circuit breaker asks again after a while; the ghost text comes with one of the next keystrokes.
            for _ in range(40):
                if window.ghost_within(2.0) != {""}:
                    break
                window.press("Backspace")
                window.type("t")
            window.wait_for_ghost("urn a + b")
            window.wait_for_status("ready")
        assert not [text for text in window.notifications() if "rror" in text]

"""What is sent along from other files, through a real server process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lsp_server.scripted_service import ScriptedService
from tests.lsp_server.session import AUTOMATIC, Session

SHAPES = 'def area(width: float, height: float) -> float:\n    """Doc."""\n    return width * height\n'
INVOICE = "def total_of_invoice(invoice, customer):\n    price = invoice.price\n    return price + customer.discount\n"
MAIN = "from shapes import area\n\ndef total_of_order(order, customer):\n    price = order.price\n    "


class Project:
    """A workspace with a server whose service knows its context length."""

    def __init__(self, root: Path, session: Session, service: ScriptedService) -> None:
        self.root, self.session, self.service = root, session, service

    def write(self, name: str, text: str) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path.as_uri()

    def open(self, name: str, text: str, language: str = "python") -> str:
        uri = self.write(name, text)
        self.session.open(uri, text, language)
        return uri

    def context_at_end(self, uri: str, text: str) -> list[dict[str, str]]:
        """What is sent along with a request at the end of `text`, once everything is ready."""
        self.session.notify("textDocument/didFocus", {"textDocument": {"uri": uri}})
        self.service.wait(lambda: any(call.path == "/info" for call in self.service.calls))
        # By the answer to it, what was begun before is done.
        self.session.command("midfill.doctor")
        lines = text.split("\n")
        before = len(self.service.completions)
        self.session.complete(uri, len(lines) - 1, len(lines[-1]), AUTOMATIC)
        return self.service.completions[before].body.get("context", [])


@pytest.fixture
def project(tmp_path: Path, service: ScriptedService, server_env: dict[str, str]) -> Iterator[Project]:
    service.context_length = 8192
    with Session.start(env=server_env) as session:
        session.initialize(root=tmp_path, endpoint=service.url, debounceMs=0, askAhead=False)
        session.wait_notification("didChangeStatus")
        yield Project(tmp_path, session, service)


def test_signatures_of_imported_names_come_first_then_what_looks_alike(project: Project) -> None:
    project.write("shapes.py", SHAPES)
    project.open("invoices.py", INVOICE)
    main = project.open("main.py", MAIN)
    assert project.context_at_end(main, MAIN) == [
        {"path": "shapes.py", "text": "def area(width: float, height: float) -> float: ..."},
        {"path": "invoices.py", "text": INVOICE.strip()},
    ]


def test_names_that_an_editor_writes_with_percent_signs(project: Project) -> None:
    project.write("my shapes/shapes.py", SHAPES)
    project.open("my shapes/invoices é.py", INVOICE)
    text = MAIN.replace("from shapes", "from .shapes")
    main = project.open("my shapes/main 100%.py", text)
    assert "%20" in main
    assert project.context_at_end(main, text) == [
        {"path": "my shapes/shapes.py", "text": "def area(width: float, height: float) -> float: ..."},
        {"path": "my shapes/invoices é.py", "text": INVOICE.strip()},
    ]


@pytest.mark.parametrize("name", [".env", "deploy/id_rsa", "private/notes.py"])
def test_files_that_are_never_sent_are_not_context_either(project: Project, name: str) -> None:
    project.session.configure(endpoint=project.service.url, debounceMs=0, askAhead=False, disabledGlobs=["private/**"])
    project.open(name, INVOICE)
    main = project.open("main.py", MAIN)
    assert project.context_at_end(main, MAIN) == []


def test_what_was_looked_up_in_a_file_is_not_sent_once_the_file_is_never_sent(project: Project) -> None:
    project.write("shapes.py", SHAPES)
    main = project.open("main.py", MAIN)
    assert [file["path"] for file in project.context_at_end(main, MAIN)] == ["shapes.py"]
    project.session.configure(endpoint=project.service.url, debounceMs=0, askAhead=False, disabledGlobs=["shapes.py"])
    project.session.complete(main, 4, 4, AUTOMATIC)
    assert "context" not in project.service.completions[-1].body


def test_nothing_from_outside_the_workspace(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "shapes.py").write_text(SHAPES)
    (project.root / "shapes.py").symlink_to(outside / "shapes.py")
    (outside / "invoices.py").write_text(INVOICE)
    project.session.open((outside / "invoices.py").as_uri(), INVOICE)
    main = project.open("main.py", MAIN)
    assert project.context_at_end(main, MAIN) == []


def test_switched_off_nothing_is_sent_along(project: Project) -> None:
    project.session.configure(endpoint=project.service.url, debounceMs=0, askAhead=False, context={"enable": False})
    project.open("invoices.py", INVOICE)
    main = project.open("main.py", MAIN)
    assert project.context_at_end(main, MAIN) == []


def test_recent_edits_elsewhere_are_sent_along(project: Project) -> None:
    other = project.open("other.py", "LIMIT = 1\n")
    project.session.insert(other, 0, 9, "0")
    main = project.open("main.py", MAIN)
    assert project.context_at_end(main, MAIN) == [{"path": "other.py", "text": "LIMIT = 10"}]


def test_context_stays_while_somebody_types(project: Project) -> None:
    """A change would make the service compute the whole prompt again."""
    other = project.open("invoices.py", INVOICE)
    main = project.open("main.py", MAIN)
    first = project.context_at_end(main, MAIN)
    project.session.insert(other, 0, 0, "# changed meanwhile\n")
    project.session.insert(main, 4, 4, "q")
    project.session.complete(main, 4, 5, AUTOMATIC)
    assert first and project.service.completions[-1].body["context"] == first


def test_it_fits_the_models_context(project: Project) -> None:
    project.service.context_length = 1024
    for number in range(9):
        project.open(f"invoices{number}.py", INVOICE.replace("discount", f"discount_{number}") * 12)
    main = project.open("main.py", MAIN)
    context = project.context_at_end(main, MAIN)
    assert len(json.dumps(context)) < 0.3 * 1024 * 4


def open_notebook(project: Project, *cells: tuple[str, str]) -> list[str]:
    """The URIs of the cells; each is a language and a text."""
    uri = (project.root / "nb.ipynb").as_uri()
    documents = [
        {"uri": f"vscode-notebook-cell:{project.root}/nb.ipynb#{i}", "languageId": language, "version": 1, "text": text}
        for i, (language, text) in enumerate(cells)
    ]
    notebook = {
        "uri": uri,
        "notebookType": "jupyter-notebook",
        "version": 1,
        "cells": [{"kind": 2 if d["languageId"] == "python" else 1, "document": d["uri"]} for d in documents],
    }
    project.session.notify("notebookDocument/didOpen", {"notebookDocument": notebook, "cellTextDocuments": documents})
    return [document["uri"] for document in documents]


CELLS = ("python", "import math"), ("markdown", "Area of a circle"), ("python", "r = "), ("python", "print(r)")


def test_a_notebook_cell_is_completed_with_the_other_cells_around_it(project: Project) -> None:
    cells = open_notebook(project, *CELLS)
    project.session.complete(cells[2], 0, 4)
    body = project.service.completions[-1].body
    assert body["prompt"] == "import math\n\n# Area of a circle\n\nr = "
    assert body["suffix"] == "\n\nprint(r)"
    project.session.complete(cells[3], 0, 8)
    assert project.service.completions[-1].body["prompt"].endswith("r = \n\nprint(r)")


def test_an_edited_cell_is_not_sent_along_with_another_as_if_it_were_of_another_file(project: Project) -> None:
    cells = open_notebook(project, *CELLS)
    at = {"line": 0, "character": 11}
    text = {"document": {"uri": cells[0], "version": 2}, "changes": [{"range": {"start": at, "end": at}, "text": "s"}]}
    notebook = {"uri": (project.root / "nb.ipynb").as_uri(), "version": 2}
    change = {"notebookDocument": notebook, "change": {"cells": {"textContent": [text]}}}
    project.session.notify("notebookDocument/didChange", change)
    assert project.context_at_end(cells[3], "print(r)") == []
    assert project.service.completions[-1].body["prompt"].startswith("import maths\n")

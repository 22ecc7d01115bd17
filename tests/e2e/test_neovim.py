"""The real Neovim with our plugin and our language server, against a service whose answers are known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.neovim_editor import Editor, setup
from tests.e2e.prompter import Prompter
from tests.e2e.waiting import wait_for
from tests.tries import tries

KEYS = {
    "accept": "<Tab>",
    "accept_word": "<F2>",
    "accept_line": "<F3>",
    "trigger": "<F4>",
    "next": "<F5>",
    "prev": "<F6>",
}
ADD = "def add(a, b):\n    return a + b\n"
# Notes the editor's own requests for completions from now on.
COUNT_REQUESTS = """
_G.asked = {}
vim.api.nvim_create_autocmd("LspRequest", {
  callback = function(event)
    local request = event.data.request
    if request.type == "pending" and request.method == "textDocument/inlineCompletion" then
      table.insert(_G.asked, event.data.request_id)
    end
  end,
})
"""
BLOCK = "def sign(x):\n    if x < 0:\n        return -1\n    return 1\n"


@pytest.fixture(scope="module")
def service() -> Iterator[Prompter]:
    with Prompter() as running:
        yield running


@pytest.fixture(scope="module")
def editor(service: Prompter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Editor]:
    running = Editor(tmp_path_factory.mktemp("neovim"), setup(endpoint=service.url, keymaps=KEYS))
    yield running
    running.close()


@pytest.fixture
def file_name(request: pytest.FixtureRequest) -> str:
    """A file that no other test has opened: nothing is in the language server's cache."""
    return f"{request.node.name.replace('[', '_').replace(']', '')}.py"


def test_accept_writes_what_is_shown(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow(ADD)
    path = editor.open(file_name, "def add(a, b):\n\n", line=1)
    editor.keys("    ret")
    editor.wait_for_ghost("urn a + b")
    assert editor.nvim.current.line == "    ret"
    editor.keys("<Tab>")
    editor.wait_for_line("    return a + b")
    assert editor.ghost() == ""
    editor.save()
    assert path.read_text() == ADD
    wait_for("the acceptance to be reported", lambda: service.reported("accepted"))
    assert service.reported("shown")[0]["completion_id"] == service.reported("accepted")[0]["completion_id"]


def test_accepting_several_lines(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow(BLOCK, lines=3)
    path = editor.open(file_name, "def sign(x):\n\n", line=1)
    editor.keys("    ")
    editor.wait_for_ghost("if x < 0:\n        return -1\n    return 1")
    editor.keys("<Tab>")
    editor.wait_for_line("    return 1")
    assert editor.nvim.current.window.cursor == (4, len("    return 1"))
    editor.save()
    assert path.read_text() == BLOCK


def test_typing_through_needs_no_new_request(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow(ADD)
    editor.open(file_name, "def add(a, b):\n\n", line=1)
    editor.keys("    ret")
    editor.wait_for_ghost("urn a + b")
    asked = len(service.requests)
    editor.keys("urn")
    assert editor.ghost_within(1.0) == {" a + b"}
    assert len(service.requests) == asked


def test_the_next_line_is_there_as_soon_as_enter_is_pressed(editor: Editor, service: Prompter, file_name: str) -> None:
    """It is known already; Neovim alone would ask for it after 200 ms."""
    for number in tries():
        service.follow(BLOCK, lines=3)
        editor.open(f"{number}_{file_name}", "def sign(x):\n\n", line=1)
        editor.keys("    ")
        editor.wait_for_ghost("if x < 0:\n        return -1\n    return 1")
        editor.keys("if x <lt> 0:")
        wait_for("the rest", lambda: editor.ghost().lstrip("\n") == "        return -1\n    return 1")
        editor.lua(COUNT_REQUESTS)
        pressed = time.monotonic()
        editor.keys("<CR>")
        asked = editor.lua("return #_G.asked")
        if time.monotonic() - pressed < 0.2:
            break
    assert asked == 1, "not with the key itself"
    editor.wait_for_ghost("        return -1\n    return 1")
    editor.keys("        re")
    editor.wait_for_ghost("turn -1\n    return 1")


@pytest.mark.parametrize("typed", ["u", "ur", "urn a "])
def test_accept_at_once_after_typing(editor: Editor, service: Prompter, file_name: str, typed: str) -> None:
    """neovim#36529: between a keystroke and the next answer the shown item has the range of the past."""
    service.follow(ADD)
    editor.open(file_name, "def add(a, b):\n\n", line=1)
    editor.keys("    ret")
    editor.wait_for_ghost("urn a + b")
    editor.keys(f"{typed}<Tab>")
    editor.wait_for_line("    return a + b")


def test_accept_at_once_after_backspace(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow(ADD)
    editor.open(file_name, "def add(a, b):\n\n", line=1)
    editor.keys("    ret")
    editor.wait_for_ghost("urn a + b")
    editor.keys("u<BS><Tab>")
    editor.wait_for_line("    return a + b")


def test_accept_replaces_the_bracket_that_it_brings(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow("print(first, second)\n")
    editor.open(file_name, "print()\n", line=0, column=len("print("))
    editor.keys("fi")
    wait_for("ghost text", lambda: editor.ghost().startswith("rst, second"))
    editor.keys("r<Tab>")
    editor.wait_for_line("print(first, second)")


def test_text_beyond_ascii(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow('x = "😀é", "naïve 😀"\n')
    editor.open(file_name, "\n", line=0)
    editor.keys('x = "😀é", "na')
    editor.wait_for_ghost('ïve 😀"')
    editor.keys("ï<Tab>")
    editor.wait_for_line('x = "😀é", "naïve 😀"')


def test_accept_word_by_word(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow(ADD)
    editor.open(file_name, "def add(a, b):\n\n", line=1)
    editor.keys("    ret")
    editor.wait_for_ghost("urn a + b")
    editor.keys("<F2>")
    editor.wait_for_line("    return")
    editor.wait_for_ghost(" a + b")
    report = wait_for("the part to be reported", lambda: service.reported("partially_accepted"))[0]
    assert report["accepted_chars"] == len("urn")
    assert not service.reported("accepted")
    for line in ("    return a", "    return a +", "    return a + b"):
        editor.keys("<F2>")
        editor.wait_for_line(line)
        if line != "    return a + b":
            wait_for("the rest", editor.ghost)
    report = wait_for("the acceptance to be reported", lambda: service.reported("accepted"))[0]
    assert report["accepted_chars"] == len("urn a + b")


def test_accept_line_by_line(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow(BLOCK, lines=3)
    path = editor.open(file_name, "def sign(x):\n\n", line=1)
    editor.keys("    ")
    editor.wait_for_ghost("if x < 0:\n        return -1\n    return 1")
    editor.keys("<F3>")
    editor.wait_for_line("    if x < 0:")
    editor.wait_for_ghost("\n        return -1\n    return 1")
    editor.keys("<F3>")
    editor.wait_for_line("        return -1")
    editor.wait_for_ghost("\n    return 1")
    editor.keys("<Tab>")
    editor.wait_for_line("    return 1")
    editor.save()
    assert path.read_text() == BLOCK


def test_undo_takes_back_what_was_accepted_and_no_more(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow(BLOCK, lines=3)
    editor.open(file_name, "def sign(x):\n\n", line=1)
    editor.keys("    ")
    editor.wait_for_ghost("if x < 0:\n        return -1\n    return 1")
    editor.keys("<Tab>")
    editor.wait_for_line("    return 1")
    editor.keys("<Esc>u")
    assert editor.lines() == ["def sign(x):", "    "]


def test_escape_takes_the_ghost_away(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow(ADD)
    path = editor.open(file_name, "def add(a, b):\n\n", line=1)
    editor.keys("    ret")
    editor.wait_for_ghost("urn a + b")
    editor.keys("<Esc>")
    assert editor.ghost() == ""
    editor.save()
    assert path.read_text() == "def add(a, b):\n    ret\n"


def test_with_the_popup_menu_open(editor: Editor, service: Prompter, file_name: str) -> None:
    """The ghost text follows the entry that is selected in the menu."""
    text = "first_name = 1\nfirst_number = 2\n"
    service.follow(text + "print(first_number)\n")
    editor.open(file_name, text + "\n", line=2)
    editor.keys("print(first_n<C-n>")
    wait_for("the menu", lambda: editor.lua("return vim.fn.pumvisible()") == 1)
    editor.keys("<C-n>")
    wait_for("the entry", lambda: editor.nvim.current.line == "print(first_number")
    editor.wait_for_ghost(")")
    editor.keys("<Tab>")
    editor.wait_for_line("print(first_number)")


def test_a_file_with_crlf_keeps_it(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow(BLOCK, lines=3)
    path = editor.open(file_name, "def sign(x):\r\n\r\n", line=1)
    editor.keys("    ")
    editor.wait_for_ghost("if x < 0:\n        return -1\n    return 1")
    editor.keys("<Tab>")
    editor.wait_for_line("    return 1")
    editor.save()
    assert path.read_bytes().decode() == BLOCK.replace("\n", "\r\n")


def test_diverging_text_takes_the_ghost_away(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow(ADD)
    editor.open(file_name, "def add(a, b):\n\n", line=1)
    editor.keys("    ret")
    editor.wait_for_ghost("urn a + b")
    editor.keys("x")
    assert editor.ghost() == ""
    editor.keys("<Tab>")
    editor.wait_for_line("    retx    ")


def test_an_answer_that_was_overtaken_is_never_shown(editor: Editor, service: Prompter, file_name: str) -> None:
    """Neovim tells the server of changes 150 ms late: the answer comes when only the editor knows better."""
    service.follow(ADD, held=True)
    editor.open(file_name, "def add(a, b):\n\n", line=1)
    editor.keys("    ret")
    wait_for("the request", lambda: service.requests)
    editor.keys("ain")
    service.answer.set()
    assert editor.ghost_within(1.5) == {""}


def test_typing_while_the_answer_is_on_its_way(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow(ADD, held=True)
    editor.open(file_name, "def add(a, b):\n\n", line=1)
    editor.keys("    ret")
    wait_for("the request", lambda: service.requests)
    editor.keys("ur")
    service.answer.set()
    editor.wait_for_ghost("n a + b")
    editor.keys("<Tab>")
    editor.wait_for_line("    return a + b")


def test_leaving_the_line_takes_the_ghost_away(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow(ADD)
    editor.open(file_name, "def add(a, b):\n\n", line=1)
    editor.keys("    ret")
    editor.wait_for_ghost("urn a + b")
    editor.keys("<CR>")
    assert editor.ghost() == ""


def test_tab_is_a_tab_when_nothing_is_shown(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow("")
    editor.open(file_name, "\n", line=0)
    editor.keys("<Tab>x")
    editor.wait_for_line("    x")


def test_trigger_asks_by_hand(editor: Editor, service: Prompter, file_name: str) -> None:
    """In the middle of a line nothing is offered unless it is asked for."""
    service.follow("total = first + second * 2\n")
    editor.open(file_name, "total = * 2\n", line=0, column=len("total = "))
    assert editor.ghost_within(1.0) == {""}
    editor.keys("<F4>")
    wait_for("ghost text", editor.ghost)


def test_cycling_through_the_answers(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow(ADD)
    service.others = ("urn b + a", "urn a - b")
    editor.open(file_name, "def add(a, b):\n\n", line=1)
    editor.keys("    ret")
    editor.wait_for_ghost("urn a + b")
    editor.keys("<F4>")

    def second() -> bool:
        editor.keys("<F5>")  # again where the answers were not there yet
        return editor.ghost_within(0.3) == {"urn b + a (2/3)"}

    wait_for("the second answer", second)
    editor.keys("<F5>")
    editor.wait_for_ghost("urn a - b (3/3)")
    editor.keys("<F6>")
    editor.wait_for_ghost("urn b + a (2/3)")
    editor.keys("<Tab>")
    editor.wait_for_line("    return b + a")
    wait_for("the acceptance to be reported", lambda: service.reported("accepted"))


def test_toggle_and_statusline(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow(ADD)
    editor.open(file_name, "def add(a, b):\n\n", line=1)
    wait_for("the server to be ready", lambda: editor.statusline() == "midfill")
    editor.keys("<Esc>:Midfill toggle<CR>A")
    wait_for("the statusline to say off", lambda: editor.statusline().startswith("midfill off"))
    editor.keys("    ret")
    assert editor.ghost_within(1.0) == {""}
    editor.keys("<Esc>:Midfill toggle<CR>A")
    wait_for("the server to be on again", lambda: editor.statusline() == "midfill")
    editor.keys("u")
    editor.wait_for_ghost("rn a + b")


def test_doctor_explains(editor: Editor, service: Prompter, file_name: str) -> None:
    editor.open(file_name, "\n", line=0)
    editor.keys("<Esc>:Midfill doctor<CR>")
    wait_for("the report", lambda: service.url in "\n".join(editor.lines()))
    editor.nvim.command("bwipeout!")


def test_log_opens(editor: Editor, file_name: str) -> None:
    editor.open(file_name, "\n", line=0)
    editor.keys("<Esc>:Midfill log<CR>")
    wait_for("a log file", lambda: Path(editor.nvim.current.buffer.name).suffix == ".log")
    editor.nvim.command("bwipeout!")


def test_restart_starts_another_server(editor: Editor, service: Prompter, file_name: str) -> None:
    service.follow(ADD)
    editor.open(file_name, "def add(a, b):\n\n", line=1)
    running = "return vim.iter(vim.lsp.get_clients({ bufnr = 0 })):map(function(c) return c.id end):totable()"
    before = editor.lua(running)
    editor.keys("<Esc>:Midfill restart<CR>")
    wait_for("another client", lambda: editor.lua(running) and editor.lua(running) != before)
    editor.keys("A    ret")
    editor.wait_for_ghost("urn a + b")


def test_health_report(editor: Editor, file_name: str) -> None:
    editor.open(file_name, "\n", line=0)
    editor.nvim.input("<Esc>")
    editor.nvim.command("checkhealth midfill")
    report = "\n".join(editor.lines())
    editor.nvim.command("bwipeout!")
    assert "Inline completion is enabled" in report
    assert "Language server is running" in report
    assert "ERROR" not in report


def test_subcommands_are_completed(editor: Editor) -> None:
    names = editor.lua("return vim.fn.getcompletion('Midfill ', 'cmdline')")
    assert names == ["doctor", "log", "restart", "status", "toggle"]
    assert editor.lua("return vim.fn.getcompletion('Midfill st', 'cmdline')") == ["status"]


def test_no_message_ever(editor: Editor) -> None:
    """After everything above: nothing was reported to the user as an error."""
    assert "Error" not in editor.messages()
    assert "midfill" not in Path(editor.lua("return vim.lsp.log.get_filename()")).read_text().lower()

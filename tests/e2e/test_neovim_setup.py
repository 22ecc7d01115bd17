"""The ways to set the Neovim plugin up, each in a Neovim of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.neovim_editor import PLUGIN, Editor, setup
from tests.e2e.prompter import Prompter
from tests.e2e.waiting import wait_for

PAGE = Path(__file__).parents[2] / "docs" / "neovim.md"
ADD = "def add(a, b):\n    return a + b\n"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Editor]]:
    started: list[Editor] = []

    def start_editor(init: str) -> Editor:
        started.append(Editor(tmp_path / "neovim", init))
        return started[-1]

    yield start_editor
    for editor in started:
        editor.close()


def test_without_setup(start: Callable[[str], Editor]) -> None:
    """`vim.lsp.enable` alone is enough; keys then come from <Plug> maps."""
    with Prompter() as service:
        service.follow(ADD)
        editor = start(
            f"""
            vim.lsp.config("midfill", {{
              cmd = {{ "{sys.executable}", "-m", "lsp_server" }},
              init_options = {{ endpoint = "{service.url}" }},
            }})
            vim.lsp.enable("midfill")
            vim.lsp.inline_completion.enable()
            vim.keymap.set("i", "<C-y>", "<Plug>(midfill-accept)")
            """
        )
        editor.open("direct.py", "def add(a, b):\n\n", line=1)
        editor.keys("    ret")
        editor.wait_for_ghost("urn a + b")
        editor.keys("u<C-y>")
        editor.wait_for_line("    return a + b")


def test_a_mapped_key_keeps_its_earlier_meaning(start: Callable[[str], Editor]) -> None:
    editor = start(
        'vim.keymap.set("i", "<Tab>", function() return "<C-v>u2192" end, { expr = true })\n'
        + setup(endpoint="http://127.0.0.1:9", keymaps={"accept": "<Tab>"})
    )
    editor.keys("i<Tab>")
    editor.wait_for_line("→")


def test_no_key_is_taken_without_asking(start: Callable[[str], Editor]) -> None:
    editor = start(setup(endpoint="http://127.0.0.1:9"))
    ours = editor.lua(
        "return vim.iter(vim.api.nvim_get_keymap('i'))"
        ":filter(function(map) return (map.desc or ''):find('Midfill') end)"
        ":map(function(map) return map.lhs end):totable()"
    )
    assert len(ours) == 6
    assert all(lhs.startswith("<Plug>(midfill-") for lhs in ours), ours


def test_settings_reach_the_server(start: Callable[[str], Editor]) -> None:
    with Prompter() as service:
        service.follow(ADD)
        editor = start(setup(endpoint=service.url, mode="block", maxTokens=17))
        editor.open("settings.py", "def add(a, b):\n\n", line=1)
        editor.keys("    ret")
        editor.wait_for_ghost("urn a + b")
        request = service.requests[-1]
        assert (request["mode"], request["max_tokens"]) == ("block", 17)


def test_a_service_that_is_down_is_told_in_the_statusline_only(start: Callable[[str], Editor]) -> None:
    editor = start(setup(endpoint="http://127.0.0.1:9"))
    editor.open("down.py", "def add(a, b):\n\n", line=1)
    editor.keys("    ret")
    wait_for("the statusline to tell", lambda: "http://127.0.0.1:9" in editor.statusline())
    assert editor.statusline().startswith("midfill !")
    assert editor.messages() == ""


def test_misspelt_options_are_named(start: Callable[[str], Editor]) -> None:
    editor = start("require('midfill').setup({ endpont = 'local', keymaps = { acept = '<Tab>' }, cmd = { 'true' } })")
    assert "no such option: endpont, keymaps.acept" in editor.messages()


def test_old_neovim_is_told_so(start: Callable[[str], Editor]) -> None:
    editor = start(
        "local has = vim.fn.has\n"
        "vim.fn.has = function(feature) return feature == 'nvim-0.10' and 0 or has(feature) end\n"
        "require('midfill').setup({})"
    )
    assert "Midfill needs Neovim 0.10 or newer" in editor.messages()
    assert editor.lua("return vim.lsp.is_enabled('midfill')") is False


def test_installed_from_the_sub_folder_by_vim_pack(start: Callable[[str], Editor], tmp_path: Path) -> None:
    """As docs/neovim.md says: Neovim's own plugin manager clones the repository, the plugin is a folder in it."""
    origin = tmp_path / "origin" / "editors" / "neovim"
    shutil.copytree(PLUGIN, origin)
    repository = str(tmp_path / "origin")
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", "-C", repository, *arguments], check=True)
    (lua,) = re.findall(r"```lua\n(vim\.pack\.add.*?)```", PAGE.read_text(), re.DOTALL)
    with Prompter() as service:
        service.follow(ADD)
        lua = lua.replace("https://git.example.org/midfill", f"file://{repository}").replace(
            "setup({", f"setup({{ endpoint = '{service.url}', cmd = {{ '{sys.executable}', '-m', 'lsp_server' }}, ", 1
        )
        editor = start(f"vim.opt.runtimepath:remove('{PLUGIN}')\nvim.fn.confirm = function() return 1 end\n{lua}")
        found = "return vim.api.nvim_get_runtime_file('lua/midfill/init.lua', false)[1]"
        path = wait_for("the clone", lambda: editor.lua(found))
        assert Path(path).is_relative_to(tmp_path / "neovim" / "data")
        editor.open("packed.py", "def add(a, b):\n\n", line=1)
        editor.keys("    ret")
        editor.wait_for_ghost("urn a + b")
        editor.keys("<Tab>")
        editor.wait_for_line("    return a + b")


def test_help_is_found(start: Callable[[str], Editor]) -> None:
    """Without `:helptags`: no plugin manager runs it in a sub-folder, so the tags are shipped."""
    editor = start("")
    editor.nvim.command("help :Midfill")
    assert editor.nvim.current.buffer.name.endswith("doc/midfill.txt")
    assert "*:Midfill*" in editor.nvim.current.line
    copied = editor.folder / "help" / "doc"
    copied.mkdir(parents=True)
    (copied / "midfill.txt").write_text((PLUGIN / "doc" / "midfill.txt").read_text())
    # Fails on a tag that is defined twice.
    editor.nvim.command(f"helptags {copied}")
    shipped = (PLUGIN / "doc" / "tags").read_text()
    assert (copied / "tags").read_text() == shipped, "run `:helptags editors/neovim/doc`"
    tags = {line.split("\t")[0] for line in shipped.splitlines()}
    assert {"midfill", "midfill.setup()", ":Midfill", "<Plug>(midfill-accept)"} <= tags

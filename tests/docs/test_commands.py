"""What the pages say that one types works as it stands (tests/docs/pages.py has the rules)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cluster.processes import free_port, service_environment
from tests.docs.pages import COMMANDS, PAGES, ROOT, fences, needs, script, unfenced
from tests.e2e.local_services import end_local_service
from tests.service_process import running_service


@pytest.fixture(scope="module")
def service_port():
    with running_service() as url:
        yield int(url.rpartition(":")[2])


@pytest.mark.timeout(500)
@pytest.mark.parametrize("page", [page for page in PAGES if script(page, 0)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_as_they_stand(page, tmp_path, request):
    port = request.getfixturevalue("service_port") if "service" in needs(page) else free_port()
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    own = {"HOME": home, "XDG_RUNTIME_DIR": home}
    own |= {f"XDG_{kind}_HOME": home / kind.lower() for kind in ("DATA", "CONFIG", "STATE")}
    if "code" in needs(page):
        for name, package in (("CODE", "inference_service"), ("MEASURED", "lsp_server")):
            own[name] = tmp_path / name.lower()
            ignored = shutil.ignore_patterns("bundled", "__pycache__")
            shutil.copytree(ROOT / package, own[name], ignore=ignored)
    environment = {
        **service_environment({}),
        **{name: str(path) for name, path in own.items()},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    command = ["bash", "-c", script(page, port)]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    finally:
        end_local_service(home)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    assert done.stdout.strip() and '"error"' not in done.stdout and "'error'" not in done.stdout, done.stdout[-3000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_nothing_that_one_types_escapes_the_test(page):
    assert not unfenced(page), "put code into a fence with its language"
    for fence in fences(page):
        assert fence.language, f"name the language of\n{fence.text}"
        if fence.why is not None:
            assert fence.language in COMMANDS and len(fence.why) > 10, "tell why it cannot be run"


def test_what_a_reader_types_in_the_first_hour_is_run():
    first = {"README", "tutorial", "team-server", "scripts", "keys-and-quotas", "train-your-own", "api"}
    assert first <= {page.stem for page in PAGES if script(page, 0)}

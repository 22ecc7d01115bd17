"""Pages that are written by programs say what the programs say now."""

from pathlib import Path

import pytest

from inference_service.guard.principal import SCOPES
from lsp_server.postprocess import FILTERS
from tools import api_docs, cli_docs

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_api_page_is_generated_from_the_openapi_document():
    assert api_docs.PAGE.read_text() == api_docs.page(), "run python -m tools.api_docs"


def test_commands_and_service_settings_are_those_of_the_programs():
    assert cli_docs.CLI.read_text() == cli_docs.cli_page(), "run python -m tools.cli_docs"
    assert cli_docs.SETTINGS.read_text() == cli_docs.settings_page(), "run python -m tools.cli_docs"


def test_every_scope_and_dependency_is_on_the_page_of_keys():
    text = (DOCS / "keys-and-quotas.md").read_text()
    for name in (*SCOPES, "degraded.redis", "degraded.keys", "degraded.events"):
        assert f"`{name}`" in text


@pytest.mark.parametrize("page", ["README.md", "docs/language-server.md"])
def test_the_pages_count_the_filters_that_there_are(page):
    assert f" {len(FILTERS)} filters" in (ROOT / page).read_text()

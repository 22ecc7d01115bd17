"""Which files are never sent."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsp_server.ignore import ignored_by


@pytest.mark.parametrize(
    "file",
    [
        "/w/.env",
        "/w/.ENV.production",
        "/w/deploy/production.env",
        "/w/putty.ppk",
        "/w/a/b.pem",
        "/w/tls.key",
        "/h/.ssh/config",
        "/h/.aws/credentials",
        "/w/secrets.yml",
    ],
)
def test_secrets_are_ignored(file: str) -> None:
    assert ignored_by(file)


@pytest.mark.parametrize(
    "file",
    ["/w/env.py", "/w/keyboard.py", "/w/credentials.py", "/w/pem.md", "/w/a.key/b.py", "/w/environment.ts"],
)
def test_ordinary_code_is_not(file: str) -> None:
    assert ignored_by(file) is None


@pytest.mark.parametrize(
    ("globs", "file", "ignored"),
    [
        (["*.log"], "/w/deep/a.log", True),
        (["build/**"], "/w/build/x/y.py", True),
        (["build/"], "/w/build/x/y.py", True),
        (["**/gen/*.ts"], "/w/gen/a.ts", True),
        (["**/gen/*.ts"], "/w/gen/deep/a.ts", False),
        (["*.{js,ts}"], "/w/a.ts", True),
        (["!.env.example"], "/w/.env.example", False),
        (["!.env*", ".env.prod"], "/w/.env.prod", True),
        (["a?.py"], "/w/ab.py", True),
        (["a?.py"], "/w/a/.py", False),
    ],
)
def test_own_globs(globs: list[str], file: str, ignored: bool) -> None:
    assert (ignored_by(file, globs) is not None) is ignored


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("a*?{},/!.[(\\"), max_size=12), st.text(st.sampled_from("a/.{("), max_size=8))
def test_no_glob_is_an_error(glob: str, file: str) -> None:
    ignored_by(file, [glob])

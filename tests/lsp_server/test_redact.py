"""Secrets do not leave the machine, and ordinary code does, unchanged."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from lsp_server.redact import redact
from tests.lsp_server.conftest import Editor
from tests.lsp_server.session import ROOT

# Made up, and put together here so that no scanner takes this file for a leak.
SECRETS = {
    "AWS": "AKIA" + "Q3EGRIHUZ5XWQ7LM",
    "GitHub": "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "GitLab": "glpat-" + "x9Zk2LmQ8rT4vW6yB1nC",
    "Slack": "xoxb-" + "123456789012-123456789012-abcdefghijkl",
    "Stripe": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "JWT": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0." + "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "random": "q7Kd93jXvP0sLm2Zt8YwB4RcUeN6hGfA",
    "hex": "9f86d081884c7d659a2feaa0c55ad015",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_known_shapes_and_random_strings(secret: str) -> None:
    line = f'client = connect(url, "{secret}", retries=3)\n'
    clean = redact(f"import x\n{line}print(1)\n")
    assert secret not in clean
    assert clean == f"import x\n{line}print(1)\n".replace(secret, re.sub(r"\w", "x", secret))


@pytest.mark.parametrize(
    ("line", "clean"),
    [
        ("db = 'postgres://bob:hunter2@db/x'", "db = 'postgres://bob:xxxxxxx@db/x'"),
        ("PASSWORD = 'Tr0ub4dor&3'", "PASSWORD = 'xxxxxxxxx&x'"),
        ('{"apiKey": "abc-123-def-456"}', '{"apiKey": "xxx-xxx-xxx-xxx"}'),
        ("//registry.example/:_authToken=npm_0a1b2c3d4e5f", "//registry.example/:_authToken=xxxxxxxxxxxxxxxx"),
    ],
)
def test_passwords(line: str, clean: str) -> None:
    assert redact(line) == clean


@pytest.mark.parametrize(
    ("path", "line", "value"),
    [
        ("compose.yaml", "  POSTGRES_PASSWORD: Tr0ub4dor&3", "Tr0ub4dor&3"),
        ("conf/app.properties", "spring.datasource.password=Tr0ub4dor&3", "Tr0ub4dor&3"),
        ("deploy.sh", "API_KEY=abc-123-def-456 ./deploy", "abc-123-def-456"),
    ],
)
def test_passwords_without_quotes_where_values_have_none(path: str, line: str, value: str) -> None:
    masked = re.sub(r"\w", "x", value)
    assert redact(f"{line}\nx\n", path=path) == f"{line}\nx\n".replace(value, masked)
    assert redact(f"{line}\nx\n", path="a.py") == f"{line}\nx\n", "in code it would be a name"
    begun = line[: line.index(value) + 5]
    assert value[:5] not in redact(begun, len(begun), path)


@pytest.mark.parametrize(
    "text",
    [
        "password: ${DB_PASSWORD_2}",
        "  secretName: midfill-tls-2",
        "token: ${{ secrets.TOKEN_2 }}",
        "password: a-plain-word",
        "passwordFile: /run/secrets/db1",
        "token=/run/secrets/token-2",
        "token: https://sso.company.net/oauth2/token",
    ],
)
def test_ordinary_configuration_stays(text: str) -> None:
    assert redact(text, path="a.yaml") == text


@pytest.mark.parametrize(
    "text",
    [
        "db = f'postgres://{user}:{password}@{host}/x'",
        "postgresql://USER:PASSWORD@HOST:5432/NAME",
        "url = 'https://example.com/a/long/path/to/some/page.html?query=1'",
        "password = getpass.getpass('password: ')",
        "token = 'your_token_here_123'",
        "password = 'password'",
        "password = input('Password: ').strip()",
        "print('token:'+str(value))",
        "import { something } from '@angular/core/testing/helpers'",
        "id = '12345678901234567890123'",
        "alphabet = 'abcdefghijklmnopqrstuvwxyz'",
        "assert_that_the_response_of_the_service_is_what_we_expect()",
    ],
)
def test_ordinary_code_stays(text: str) -> None:
    assert redact(text) == text


def test_our_own_code_stays() -> None:
    for file in [*(ROOT / "lsp_server").glob("*.py"), *(ROOT / "inference_service").glob("**/*.py")]:
        text = file.read_text()
        assert redact(text) == text, file


KEY = "MIIEpAIBAAKCAQEA75xdWvQ5\nkvqGBzJHUKXmRtDcwE9uVyZ2\n"


@pytest.mark.parametrize(
    "text",
    [
        f"-----BEGIN RSA PRIVATE KEY-----\n{KEY}-----END RSA PRIVATE KEY-----\nx = 1\n",
        f"-----BEGIN PRIVATE KEY-----\n{KEY}",
        f"{KEY}-----END PRIVATE KEY-----\nx = 1\n",
    ],
    ids=["whole", "the end is not in the text", "the beginning is not"],
)
def test_private_keys(text: str) -> None:
    clean = redact(text)
    assert "MIIEp" not in clean and "kvqGB" not in clean
    assert len(clean) == len(text)
    assert clean.count("\n") == text.count("\n")
    assert ("x = 1" in clean) == ("x = 1" in text)


@limits(max_examples=150, deadline=None)
@given(st.text(max_size=40), st.sampled_from(list(SECRETS.values())), st.text(max_size=40))
def test_length_and_lines_stay_whatever_is_around(before: str, secret: str, after: str) -> None:
    text = f'{before}\nkey = "{secret}"\n{after}'
    clean = redact(text)
    assert len(clean) == len(text)
    assert [i for i, c in enumerate(clean) if c == "\n"] == [i for i, c in enumerate(text) if c == "\n"]
    assert secret not in clean
    assert redact(clean) == clean


@pytest.mark.parametrize("kind", ["AWS", "GitHub", "GitLab", "Slack", "Stripe", "JWT"])
@pytest.mark.parametrize("after", ["", '"\nx = 1\n'], ids=["open", "closed by the editor"])
def test_a_key_that_is_being_typed_is_one_already(kind: str, after: str) -> None:
    secret = SECRETS[kind]
    for length in range(9, len(secret)):
        before = f'client = connect("{secret[:length]}'
        clean = redact(before + after, len(before))
        assert secret[:9] not in clean and clean.endswith(after) and len(clean) == len(before + after)


@pytest.mark.parametrize("value", ["hunt", "hunter2", "Tr0ub4dor&3"])
def test_a_password_that_is_being_typed_is_one_already(value: str) -> None:
    before = f"password = '{value}"
    assert value not in redact(before, len(before))


@pytest.mark.parametrize("value", ["hunter2", "Tr0ub4dor&3", "correcthorse)"])
@pytest.mark.parametrize("after", ["", "\nx = 1\n", "  \n"])
def test_a_password_that_was_left_half_typed_is_one_too(value: str, after: str) -> None:
    """In this file or another: the cursor is elsewhere."""
    text = f"import x\npassword = '{value}{after}"
    assert redact(text) == text.replace(value, re.sub(r"\w", "x", value))


@pytest.mark.parametrize("before", ["token = 'your_token", "token = f'{user", "name = 'hunter", "token = get('user"])
def test_other_strings_that_are_being_typed_stay(before: str) -> None:
    assert redact(before, len(before)) == before
    assert redact(f"{before}\nx = 1\n") == f"{before}\nx = 1\n"


def test_secrets_are_not_sent_even_if_the_cursor_is_inside(editor: Editor, state_home: Path) -> None:
    secret = SECRETS["GitHub"]
    editor.open(f"key = '{secret[:20]}║{secret[20:]}'\n")
    editor.items(kind=1)
    body = editor.service.completions[0].body
    assert body["prompt"] == "key = '" + "x" * 20
    assert body["suffix"] == "x" * 20 + "'\n"
    editor.configure(redactSecrets=False)
    editor.items(kind=1)
    assert editor.service.completions[1].body["prompt"].endswith(secret[:20])

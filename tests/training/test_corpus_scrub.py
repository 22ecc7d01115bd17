"""Scrubbing: secrets and addresses go, the code stays what it was."""

import ast
import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import PACKAGE
from tests.training.corpus_samples import Listed, documents
from training.corpus.collect import collect
from training.corpus.scrub import scrub


def _jwt():
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256"}, {"sub": "1234567890"})]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + ".c2lnbmF0dXJl"


SECRETS = [  # put together here, so that no scanner takes them for real ones
    ("AWS Access Key", "AKIA" + "Z7VRSQ5TJN2XMPLQ"),
    ("AWS Access Key", "aws_secret_key = '" + "wJalrXUtnFEMI/K7MDENG" + "/bPxRfiCYzzyyxxwwvv'"),
    ("GitHub Token", "ghp_" + "a1B2" * 9),
    ("GitLab Token", "glpat-" + "aB3dE6gH9jK2mN5pQ8sT"),
    ("Slack Token", "xoxb-" + "123456789012-123456789012-abcdefABCDEF"),
    ("Stripe Access Key", "sk_live_" + "a1B2c3D4e5F6g7H8i9J0k1L2"),
    ("JSON Web Token", _jwt()),
    ("Basic Auth Credentials", "postgres://admin:" + "hunter2@db.internal/app"),
    ("Hex High Entropy String", "digest = '" + "8f14e45fceea167a5a36dedd4bea2543'"),
    ("Base64 High Entropy String", "salt = '" + "q8Zr1mX0vK3nYb5TdWgJh7Lc2PfSe9Zr'"),
    ("Secret Keyword", "password = '" + "correct4horse'"),
    ("Secret Keyword", "{'api_key': '" + "a1b2c3d4'}"),
]


@pytest.mark.parametrize(("kind", "secret"), SECRETS)
@pytest.mark.parametrize("source", ["# {}\n", 'TEXT = """\n{}\n"""\n'])
def test_each_kind_of_secret_is_masked_and_counted(kind, secret, source):
    text = source.replace("{}", secret) + "x = 1\n"
    scrubbed, found = scrub(text)
    assert scrubbed != text
    assert len(scrubbed) == len(text)
    assert found[kind] == 1
    longest = max(secret.replace("'", " ").replace("@", ":").split(), key=len).split(":")[-2 if "://" in secret else 0]
    assert longest not in scrubbed
    ast.parse(scrubbed)


def test_the_body_of_a_private_key_is_masked_however_it_is_quoted():
    body = "MIIEpAIBAAKCAQEA" + "0123456789abcdef" * 3
    text = (
        f'KEY = (\n    "-----BEGIN RSA PRIVATE KEY-----\\n"\n    "{body}\\n"\n    "-----END RSA PRIVATE KEY-----"\n)\n'
    )
    scrubbed, found = scrub(text)
    assert body not in scrubbed
    assert found == {"Private Key": 1}
    assert scrubbed.count("-----") == 4
    assert scrubbed.count("\\n") == 2


def test_addresses_become_one_of_the_example_domain():
    text = '__author__ = "Jo <jo.doe+x@mail.acme.io>"  # or jo@acme.io\nTEXT = "Mail:\\njo@acme.io"\n'
    scrubbed, found = scrub(text)
    assert scrubbed == (
        '__author__ = "Jo <user@example.com>"  # or user@example.com\nTEXT = "Mail:\\nuser@example.com"\n'
    )
    assert found == {"e-mail address": 3}


@pytest.mark.parametrize(
    "text",
    [
        "y = a@b.data\n",
        "@pytest.mark.full\ndef f(): ...\n",
        'url = f"postgres://{user}:{password}@{host}/db"\n',
        'url = "postgres://%s:%s@host/db" % login\n',
        'password = "password"\n',
        'PASSWORD_FIELD = "password1_field"\n',
        'LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"\n',
        'NAMESPACE = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"\n',
        'icon = "logo@2x.png"\n',
        'remote = "git@github.com:owner/project.git"\n',
        'to = "somebody@example.org"\n',
        "token = tokens[index1]\n",
    ],
)
def test_code_and_placeholders_are_left_alone(text):
    assert scrub(text) == (text, {})


def test_a_product_of_matrices_stays_beside_an_address():
    scrubbed, found = scrub("y = a@b.data  # as jo@acme.io says\n")
    assert scrubbed == "y = a@b.data  # as user@example.com says\n"
    assert found == {"e-mail address": 1}


def _without_literals(text):
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            node.value = ""
    return ast.dump(tree)


_PIECES = st.one_of(
    st.text(max_size=12),
    st.sampled_from([secret for _, secret in SECRETS]),
    st.sampled_from(["jo@acme.io", "\n", "\\", "'", "{x}", "\x00", "://a:b@c"]),
)


@given(st.lists(st.lists(_PIECES, max_size=5), min_size=1, max_size=4), st.sampled_from(["", "b"]))
def test_whatever_the_literals_hold_only_literals_change(values, prefix):
    literals = ["".join(pieces) for pieces in values]
    lines = [f"password{n} = {(value.encode() if prefix else value)!r}" for n, value in enumerate(literals)]
    text = "\n".join(lines) + "\n"
    scrubbed, _ = scrub(text)
    assert scrubbed is not None
    assert _without_literals(scrubbed) == _without_literals(text)


def test_ordinary_code_is_left_as_it_is():
    changed = [path.name for path in sorted(PACKAGE.rglob("*.py")) if scrub(path.read_text())[0] != path.read_text()]
    assert changed == []


def test_a_corpus_holds_no_secret_and_tells_how_many_there_were(tmp_path):
    secret = "ghp_" + "a1B2" * 9
    code = f'TOKEN = "{secret}"  # ask jo@acme.io\n\n\ndef headers(request):\n    return {{"X": TOKEN}}\n'
    counts = collect([Listed("pkg", {"a.py": code})], tmp_path)
    (text,) = documents(tmp_path).values()
    assert secret not in text
    assert "jo@acme.io" not in text
    assert counts["scrubbed: GitHub Token"] == counts["scrubbed: e-mail address"] == 1

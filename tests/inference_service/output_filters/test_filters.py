"""Each filter by its cases: what goes, and what stays though it looks alike."""

import math

import pytest

from inference_service.output_filters.in_suffix import without_suffix
from inference_service.output_filters.pipeline import judge
from inference_service.output_filters.repeated_text import without_repetition
from inference_service.output_filters.secrets import has_secret
from inference_service.output_filters.syntax import parses


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\nb\nb\nb\nb", "a\nb"),
        ("x = 1\ny = 2\n" * 3, "x = 1\ny = 2"),
        ("a\na", "a\na"),
        ("a\n\n\n\nb", "a\n\n\n\nb"),
        ("", ""),
    ],
)
def test_repetition(text, left):
    assert without_repetition(text) == left


@pytest.mark.parametrize(
    ("text", "suffix", "left"),
    [
        ("a + b\n    return c", "\n    return c\n", "a + b"),
        ("a + b", "\n    return c\n", "a + b"),
        ("foo(\n)", "\n)\n", "foo(\n)"),
        ("return x", "return x\n", ""),
        ("a\nb\nc", "b\nc\nd", "a"),
        ("a", "", "a"),
    ],
)
def test_what_stands_behind_the_cursor(text, suffix, left):
    assert without_suffix(text, suffix) == left


@pytest.mark.parametrize(
    "text",
    [
        'key = "AKIA' + "ABCDEFGHIJKLMNOP" + '"',
        "ghp_" + "a1" * 18,
        "-----BEGIN RSA PRIVATE " + "KEY-----",
        "xoxb-" + "1234567890-abcdef",
        "sk-proj-" + "a" * 30,
    ],
)
def test_secrets(text):
    assert has_secret(f"token = {text}\n")


@pytest.mark.parametrize("text", ["key = os.environ['KEY']", "task-force", "AKIA", "sk-learn", "risk-" + "a" * 30])
def test_what_is_no_secret(text):
    assert not has_secret(text)


def test_syntax_is_told_for_python_alone():
    assert parses("def f(x):\n    return ", "x + 1", "\n", "python") is True
    assert parses("def f(x):\n    return ", "x + ", "\n", "python") is False
    assert parses("def f(x):\n    return ", "x\0", "\n", "python") is False
    assert parses("fn f() {", "}", "", "rust") is None
    assert parses("x" * 30_000, "", "", "python") is None


def test_the_threshold_is_a_probability_per_token():
    common = {"before": "", "after": "", "language": ""}
    assert judge("x", mean_logprob=math.log(0.31), **common).text == "x"
    doubted = judge("x", mean_logprob=math.log(0.29), **common)
    assert (doubted.text, doubted.reasons) == ("", ("low_confidence",))
    assert judge("", mean_logprob=None, **common).reasons == ()

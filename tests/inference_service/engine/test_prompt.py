"""Prompts: they fit, and their beginning stays the same while somebody types."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.engine.block_manager import common_prefix
from inference_service.engine.prompt import build_prompt
from inference_service.engine.request import CompletionRequest, ContextFile
from inference_service.model.tokenizer import FILE_SEP, FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, Tokenizer
from tests.conftest import BUNDLED_NANO

SOURCE = (BUNDLED_NANO.parents[1] / "engine" / "engine.py").read_text()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(BUNDLED_NANO / "tokenizer.tiktoken")


def test_spm_order(tokenizer):
    request = CompletionRequest(
        "import os\n", suffix="\nmain()", path="a.py", context=(ContextFile("b.py", "B = 1\n"),)
    )
    tokens = build_prompt(request, tokenizer, 512).tokens
    sentinels = [tokens.index(tokenizer.sentinel(name)) for name in (FILE_SEP, FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)]
    assert sentinels == sorted(sentinels)
    assert tokens.count(tokenizer.sentinel(FILE_SEP)) == 2
    assert tokenizer.decode(tokens[sentinels[3] + 1 :]) == "import os\n"
    assert tokenizer.decode(tokens[sentinels[2] + 1 : sentinels[3]]) == "\nmain()"


def test_without_a_suffix_there_is_no_fim_sentinel(tokenizer):
    tokens = build_prompt(CompletionRequest("import os\n"), tokenizer, 512).tokens
    assert tokenizer.decode(tokens) == "import os\n"


def test_an_empty_prompt_still_has_a_token_to_compute(tokenizer):
    assert len(build_prompt(CompletionRequest(""), tokenizer, 512).tokens) == 1


@settings(max_examples=60, deadline=None)
@given(
    repeat=st.integers(0, 12),
    suffix=st.one_of(st.none(), st.integers(0, 9000)),
    context=st.integers(0, 9000),
    max_tokens=st.integers(1, 2000),
)
def test_every_prompt_leaves_room_for_the_completion(tokenizer, repeat, suffix, context, max_tokens):
    request = CompletionRequest(
        SOURCE * repeat,
        suffix=None if suffix is None else (SOURCE * 3)[:suffix],
        path="engine.py",
        context=(ContextFile("c.py", (SOURCE * 3)[:context]), ContextFile("d.py", "x = 1\n")),
        max_tokens=max_tokens,
    )
    prompt = build_prompt(request, tokenizer, 512)
    assert 1 <= len(prompt.tokens) <= 512 - min(max_tokens, 256)


def test_typing_keeps_the_beginning_of_a_long_prompt(tokenizer):
    """300 typed characters: almost every prompt continues the one before."""
    jumps, newly = 0, []
    before: list[int] = []
    for end in range(4000, 4300):
        tokens = build_prompt(
            CompletionRequest(SOURCE[:end], suffix=SOURCE[4400:], path="engine.py"), tokenizer, 512
        ).tokens
        shared = common_prefix(before, tokens)
        newly.append(len(tokens) - shared)
        jumps += bool(before) and shared < len(before) // 2
        before = tokens
    assert jumps <= 2
    assert sorted(newly)[len(newly) // 2] <= 8

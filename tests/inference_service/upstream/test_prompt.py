"""What is sent to a server that is told a suffix in the way of a model family."""

import pytest

from inference_service.backends.upstream.prompt import FAMILIES, build_body
from inference_service.engine.request import CompletionRequest
from inference_service.model.fim import FORMATS, infill_text


@pytest.mark.parametrize(
    ("fim", "prompt"),
    [
        ("qwen2.5-coder", "<|file_sep|>a.py\n<|fim_prefix|>PRE<|fim_suffix|>SUF<|fim_middle|>"),
        ("starcoder2", "<file_sep><fim_prefix>a.py\nPRE<fim_suffix>SUF<fim_middle>"),
        ("codellama", " <PRE>PRE <SUF>SUF <MID>"),
    ],
)
def test_families(fim, prompt):
    request = CompletionRequest(prompt="PRE", suffix="SUF", path="a.py")
    assert build_body(request, "m", fim, 4096, midfill=False)["prompt"] == prompt


@pytest.mark.parametrize("fim", FAMILIES)
def test_a_sentinel_in_the_users_text_is_text(fim):
    sentinels = FORMATS[fim].sentinels
    nothing = infill_text(FORMATS[fim], "p", "", "")
    hostile = infill_text(FORMATS[fim], "".join(sentinels), "".join(sentinels), "".join(sentinels))
    for name in sentinels:
        plain = name.replace("▁", "")
        assert hostile.count(plain) == nothing.count(plain)


def test_the_beginning_stays_while_somebody_types_in_a_long_file():
    lines = "".join(f"value_{number} = {number}\n" for number in range(5000))
    prompts = [
        build_body(CompletionRequest(prompt=lines + "x" * typed, suffix=""), "m", "suffix", 1024, False)["prompt"]
        for typed in range(100)
    ]
    assert len({prompt[:500] for prompt in prompts}) <= 2 and all(len(prompt) <= 3 * 1024 for prompt in prompts)
    assert all(lines.endswith(prompt.rstrip("x")) for prompt in prompts)

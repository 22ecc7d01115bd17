"""The self-test of a version before it serves: its golden prompts give its golden text."""

from __future__ import annotations

import json
from pathlib import Path

from inference_service.backends.base import Backend
from inference_service.engine.request import CompletionRequest
from inference_service.registry.errors import ModelRefused

_MAX_TOKENS = 48
# A processor with other kernels rounds otherwise, and where two tokens are nearly as likely the other one may win.
_MOST_DIFFERENT = 0.25


async def self_test(backend: Backend, path: Path) -> None:
    """Complete the prompts of `path`/golden.json greedily, to the end of the line.

    Raises ModelRefused when a completion fails, or when more than a quarter of the texts differ from the expected ones.
    """
    try:
        cases = json.loads((path / "golden.json").read_text(encoding="utf-8"))
        requests = [
            CompletionRequest(
                prompt=case["prefix"], suffix=case["suffix"], path=case["path"], max_tokens=_MAX_TOKENS, mode="line"
            )
            for case in cases
        ]
        expected = [case["text"] for case in cases]
    except FileNotFoundError:
        return  # a checkpoint in Hugging Face layout; that it loaded and warmed up has to do
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelRefused(f"{path / 'golden.json'} cannot be read: {type(error).__name__}") from None
    different = 0
    for request, text in zip(requests, expected, strict=True):
        written = ""
        async for chunk in backend.complete(request):
            if chunk.finish_reason == "error":
                raise ModelRefused(f"the golden self-test of {path.name} failed: {chunk.error}")
            written += chunk.text
        different += written != text
    if different > _MOST_DIFFERENT * len(expected):
        raise ModelRefused(
            f"the golden self-test of {path.name} failed: {different} of {len(expected)} prompts gave another text "
            "than when the model was published"
        )

"""What is done with a checkpoint: prompts in its format, and publishing it as one of our directories."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.engine.prompt import build_prompt
from inference_service.engine.request import CompletionRequest, ContextFile
from inference_service.model import directory, huggingface
from tests.inference_service.model.huggingface.small_models import CONTEXT
from tests.inference_service.model.huggingface.small_tokenizers import SOURCES

SOURCE = SOURCES[0].read_text(encoding="utf-8") + SOURCES[9].read_text(encoding="utf-8")
FILLING_IN = ["starcoder", "starcoder2", "deepseek-coder", "mellum", "codellama", "qwen2"]


@pytest.mark.parametrize("family", FILLING_IN)
@settings(max_examples=10)
@given(prefix=st.integers(0, 4000), suffix=st.integers(0, 4000), context=st.integers(0, 4000))
def test_every_prompt_leaves_room_and_keeps_its_sentinels(checkpoint, family, prefix, suffix, context):
    tokenizer = huggingface.load(checkpoint(family)[0]).tokenizer
    request = CompletionRequest(
        SOURCE[:prefix],
        suffix=SOURCE[:suffix],
        path="a.py",
        context=(ContextFile("b.py", SOURCE[:context]),),
        max_tokens=64,
    )
    tokens = build_prompt(request, tokenizer, CONTEXT).tokens
    assert len(tokens) <= CONTEXT - 64
    assert tokens[: len(tokenizer.begin)] == tokenizer.begin
    assert tokenizer.fim.infill is not None
    order = [name for name in sorted(tokenizer.fim.sentinels, key=tokenizer.fim.infill.find) if "file" not in name]
    places = [tokens.index(tokenizer.sentinel(name)) for name in order]
    assert places == sorted(places)


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "codellama"])
def test_a_checkpoint_can_be_published_as_a_directory_of_ours(checkpoint, tmp_path, family):
    loaded = huggingface.load(checkpoint(family)[0])
    model = loaded.build_float()
    directory.write(tmp_path / family, model, loaded.tokenizer, golden=[], card="# card\n", extra={})
    again = directory.load(tmp_path / family)
    assert again.config == loaded.config
    assert again.tokenizer.digest == loaded.tokenizer.digest and again.tokenizer.fim == loaded.tokenizer.fim
    tokens = torch.tensor([loaded.tokenizer.encode(SOURCE)[:100]])
    with torch.inference_mode():
        exact, published = model(tokens), again.build_float()(tokens)
    assert (exact - published).norm() < 0.2 * exact.norm()

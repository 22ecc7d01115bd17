"""Shared fixtures: a tiny, randomly initialised model directory in the real format."""

from __future__ import annotations

from pathlib import Path

import pytest

BUNDLED_NANO = Path(__file__).parent.parent / "inference_service" / "bundled" / "nano"


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 2 layers and width 32 with the bundled tokenizer; its completions are fluent nonsense."""
    from inference_service.model import directory
    from inference_service.model.gpt import GPT, GPTConfig
    from inference_service.model.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(BUNDLED_NANO / "tokenizer.tiktoken")
    config = GPTConfig(tokenizer.vocab_size, n_layer=2, n_head=2, n_kv_head=1, d_model=32, d_ff=64, context_length=512)
    model = GPT(config)
    model.init_weights(seed=1)
    for block in model.blocks:  # zero at initialisation: without this no layer would have an effect
        for projection in (block.attention.out, block.mlp.down):
            projection.weight.data.normal_(std=0.2)
    path = tmp_path_factory.mktemp("models") / "tiny"
    directory.write(path, model, tokenizer, golden=[], card="# tiny\n", extra={})
    return path

"""Shared fixtures: a tiny, randomly initialised model directory in the real format."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: a busy machine is not a fault. On CI the examples are the same for the same code, so that a change is
# judged by what it does; everywhere else they differ from run to run.
settings.register_profile("midfill", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("midfill")

# Without a GPU the Triton kernels are interpreted; Triton reads this when it is imported.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# what somebody keeps on this machine (keys, for one) is none of the tests' business
_DATA_HOME = tempfile.TemporaryDirectory(prefix="midfill-tests-", ignore_cleanup_errors=True)
os.environ["XDG_DATA_HOME"] = _DATA_HOME.name
BUNDLED_NANO = Path(__file__).parent.parent / "inference_service" / "bundled" / "nano"


def pytest_unconfigure() -> None:
    """xdist's workers leave without the interpreter's own cleaning up."""
    _DATA_HOME.cleanup()


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 2 layers and width 32 with the bundled tokenizer; its completions are fluent nonsense."""
    import torch

    from inference_service.model import directory
    from inference_service.model.gpt import GPT, GPTConfig
    from inference_service.model.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(BUNDLED_NANO / "tokenizer.tiktoken")
    config = GPTConfig(tokenizer.vocab_size, n_layer=2, n_head=2, n_kv_head=1, d_model=32, d_ff=64, context_length=512)
    model = GPT(config)
    model.init_weights(seed=1)
    generator = torch.Generator().manual_seed(1)
    for block in model.blocks:  # zero at initialisation: without this no layer would have an effect
        for projection in (block.attention.out, block.mlp.down):
            projection.weight.data.normal_(std=0.2, generator=generator)
    path = tmp_path_factory.mktemp("models") / "tiny"
    directory.write(path, model, tokenizer, golden=[], card="# tiny\n", extra={})
    return path

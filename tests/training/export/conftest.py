"""Two small models to export: our own architecture, and one of GPT-2's shape with GPT-2's kind of tokenizer."""

import pytest
import torch

from inference_service.model import directory, huggingface
from inference_service.model.gpt import GPT, GPTConfig
from tests.inference_service.model.huggingface.small_models import random_model, save
from tests.training.prepared import BYTES


@pytest.fixture(scope="session")
def own(tmp_path_factory):
    torch.set_num_threads(1)  # models this small lose more by waiting for another thread
    shape = {"n_layer": 2, "n_head": 4, "n_kv_head": 2, "d_model": 32, "d_ff": 64, "context_length": 128}
    model = GPT(GPTConfig(264, **shape, bigram_rows=300))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2, generator=generator)
    path = tmp_path_factory.mktemp("models") / "own"
    directory.write(path, model, BYTES, [], "# the card\n", {})
    return directory.load(path)


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory):
    """Trained elsewhere, fine-tuned here: a model directory of ours that was a checkpoint of GPT-2."""
    loaded = huggingface.load(save(random_model("gpt2"), "gpt2", tmp_path_factory.mktemp("checkpoint")))
    path = tmp_path_factory.mktemp("models") / "gpt2"
    directory.write(path, loaded.build_float(), loaded.tokenizer, [], "# the card\n", {})
    return directory.load(path)

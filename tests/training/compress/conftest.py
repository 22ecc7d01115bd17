"""A model of single bytes that has learned a little, in seconds, and the data that it learned from."""

import pytest
import torch

from inference_service.model import directory
from inference_service.model.gpt import GPT, GPTConfig
from tests.training.prepared import BYTES
from training.compress.source import open_source
from training.compress.tune import tune
from training.recipe import Recipe, TrainConfig
from training.sampled_softmax import FullLoss
from training.shards import prepare

CONFIG = GPTConfig(
    BYTES.vocab_size, n_layer=2, n_head=2, n_kv_head=1, d_model=32, d_ff=64, context_length=512, bigram_rows=300
)


def recipe(steps: int, config: GPTConfig = CONFIG, row_tokens: int = 64) -> Recipe:
    """Steps of 8 rows, which go the same way on every machine."""
    batch = 8 * row_tokens
    return Recipe("bytes", config, TrainConfig(steps * batch, batch, row_tokens, warmup_steps=4, precision="float32"))


@pytest.fixture(scope="session")
def byte_data(corpus, tmp_path_factory):
    folder, few = tmp_path_factory.mktemp("bytes"), tmp_path_factory.mktemp("few")
    held_out = (corpus / "heldout.jsonl").read_text().splitlines(keepends=True)
    (few / "heldout.jsonl").write_text("".join(held_out[::8]))
    prepare(corpus, "train", BYTES, folder)
    prepare(few, "heldout", BYTES, folder)
    BYTES.save(folder / "tokenizer.tiktoken")
    return folder


@pytest.fixture(scope="session")
def byte_model(byte_data, tmp_path_factory):
    torch.set_num_threads(1)  # a model this small loses more by waiting for another thread
    model = GPT(CONFIG)
    model.init_weights()
    tune(model, FullLoss(model), recipe(150), byte_data, BYTES)
    path = tmp_path_factory.mktemp("models") / "bytes"
    directory.write(path, model, BYTES, [], "# bytes\n", {"recipe": "bytes"})
    return path


@pytest.fixture
def source(byte_model, byte_data):
    return open_source(str(byte_model), byte_data)

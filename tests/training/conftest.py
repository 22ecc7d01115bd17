"""A prepared toy data set, shared by the tests of training."""

import json

import numpy as np
import pytest
import torch

from inference_service.model.tokenizer import Tokenizer
from tests.conftest import BUNDLED_NANO
from training.shards import prepare

PACKAGE = BUNDLED_NANO.parents[1]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(BUNDLED_NANO / "tokenizer.tiktoken")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Our own source files as train and heldout split, a package a folder."""
    folder = tmp_path_factory.mktemp("corpus")
    documents = [
        json.dumps(
            {"package": path.parent.name, "path": path.relative_to(PACKAGE).as_posix(), "text": path.read_text()}
        )
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.stat().st_size > 200
    ]
    for split in ("train", "heldout"):
        (folder / f"{split}.jsonl").write_text("\n".join(documents) + "\n")
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory, corpus, tokenizer):
    """The toy corpus, prepared with the bundled tokenizer."""
    out = tmp_path_factory.mktemp("data")
    for split in ("train", "heldout"):
        manifest = prepare(corpus, split, tokenizer, out)
        assert manifest is not None
        assert manifest.tokens > 10_000
    tokenizer.save(out / "tokenizer.tiktoken")
    return out


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def one_thread():
    """Models this small are slower with two threads, on a busy machine many times."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

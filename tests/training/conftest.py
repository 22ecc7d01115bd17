"""A prepared toy data set, shared by the tests of training."""

import json

import numpy as np
import pytest

from inference_service.model.tokenizer import Tokenizer
from tests.conftest import BUNDLED_NANO
from training.shards import prepare

PACKAGE = BUNDLED_NANO.parents[1]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.load(BUNDLED_NANO / "tokenizer.tiktoken")


@pytest.fixture(scope="session")
def data(tmp_path_factory, tokenizer):
    """Our own source files as train and heldout split, prepared with the bundled tokenizer."""
    corpus, out = tmp_path_factory.mktemp("corpus"), tmp_path_factory.mktemp("data")
    files = sorted(PACKAGE.rglob("*.py"))
    documents = [
        json.dumps(
            {"package": path.parent.name, "path": path.relative_to(PACKAGE).as_posix(), "text": path.read_text()}
        )
        for path in files
        if path.stat().st_size > 200
    ]
    for split in ("train", "heldout"):
        (corpus / f"{split}.jsonl").write_text("\n".join(documents) + "\n")
        assert prepare(corpus, split, tokenizer, out) > 10_000
    tokenizer.save(out / "tokenizer.tiktoken")
    return out


@pytest.fixture
def rng():
    return np.random.default_rng(0)

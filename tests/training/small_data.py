"""Both splits of a few short files, so that a whole evaluation takes a moment."""

from pathlib import Path

from inference_service.model.tokenizer import Tokenizer
from tests.conftest import BUNDLED_NANO
from tests.training.prepared import write_corpus
from training.shards import prepare

PACKAGE = BUNDLED_NANO.parents[1]


def write_small_data(folder: Path, tokenizer: Tokenizer, count: int) -> Path:
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if 1000 < path.stat().st_size < 2500][:count]
    assert len(files) == count
    documents = [(path.parent.name, path.relative_to(PACKAGE).as_posix(), path.read_text()) for path in files]
    data = folder / "data"
    for split in ("train", "heldout"):
        prepare(write_corpus(folder / split, documents, split), split, tokenizer, data)
    tokenizer.save(data / "tokenizer.tiktoken")
    return data

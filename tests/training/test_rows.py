"""Training rows: the format of serving, the same for any number of processes, nothing lost in the shards."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.model.tokenizer import END_OF_TEXT, FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX
from training.fim import FimConfig, RowSampler
from training.shards import BadShard, open_shard, prepare


@pytest.fixture(scope="module")
def shard(data, tokenizer):
    return open_shard(data, "train", tokenizer)


def sampler(shard, tokenizer, length=257, seed=0, **config):
    return RowSampler(shard, tokenizer, length, FimConfig(**config), seed)


@settings(max_examples=40, deadline=None)
@given(number=st.integers(0, 10**9), length=st.integers(65, 600))
def test_rows_have_the_asked_length_and_only_known_ids(shard, tokenizer, number, length):
    row = sampler(shard, tokenizer, length).row(number)
    assert len(row) == length
    assert all(0 <= token < tokenizer.vocab_size for token in row)


def test_a_row_depends_on_seed_and_number_alone(shard, tokenizer):
    first, again = sampler(shard, tokenizer), sampler(shard, tokenizer)
    rows = [first.row(n) for n in range(5)]
    assert [again.row(n) for n in reversed(range(5))] == rows[::-1]
    assert sampler(shard, tokenizer, seed=1).row(0) != rows[0]


def test_fim_samples_read_as_suffix_then_prefix_and_middle(shard, tokenizer):
    """Gluing them together the other way round gives the text of a file."""
    rows = sampler(shard, tokenizer, 400, fim_rate=1.0, context_share=0.0, path_share=0.0)
    files = [tokenizer.decode(shard.document(n).tolist()) for n in range(len(shard))]
    begin, suffix_at, middle_at, end = (
        tokenizer.sentinel(s) for s in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE, END_OF_TEXT)
    )
    checked = 0
    for number in range(20):
        row = rows.row(number)
        if row[:2] != [begin, suffix_at] or end not in row:
            continue
        suffix = tokenizer.decode(row[2 : row.index(middle_at)])
        before = tokenizer.decode(row[row.index(middle_at) + 1 : row.index(end)])
        assert any((before + suffix) in file for file in files)
        checked += 1
    assert checked >= 10


def test_without_fim_there_is_no_sentinel_of_it(shard, tokenizer):
    row = sampler(shard, tokenizer, fim_rate=0.0).row(3)
    assert tokenizer.sentinel(FIM_PREFIX) not in row


def test_every_document_is_in_the_shard(shard, tokenizer, data):
    assert len(shard.tokens) == shard.starts[-1]
    assert "def encode(self, text: str)" in tokenizer.decode(
        shard.document(shard.paths.index("model/tokenizer.py")).tolist()
    )


def test_unusable_shards_say_what_to_do(data, tokenizer, tmp_path):
    with pytest.raises(BadShard, match=r"index\.npz is missing: run `midfill-train prepare`"):
        open_shard(tmp_path, "train", tokenizer)
    for name in ("train.bin", "train.index.npz"):
        (tmp_path / name).write_bytes((data / name).read_bytes())
    with (tmp_path / "train.bin").open("ab") as file:
        file.write(b"xx")
    with pytest.raises(BadShard, match="its index says"):
        open_shard(tmp_path, "train", tokenizer)
    (tmp_path / "train.index.npz").write_bytes(b"not an archive")
    with pytest.raises(BadShard, match="cannot be read"):
        open_shard(tmp_path, "train", tokenizer)


def test_a_shard_of_another_tokenizer_is_refused(data, tokenizer):
    class Other:
        digest = "something else"

    with pytest.raises(BadShard, match="another tokenizer"):
        open_shard(data, "train", Other())


def test_a_vocabulary_beyond_16_bits_is_refused(tmp_path):
    class Huge:
        vocab_size = 70_000

    with pytest.raises(BadShard, match="does not fit 16 bits"):
        prepare(tmp_path, "train", Huge(), tmp_path)


def test_tokenizer_training_gives_the_ids_that_serving_uses(tmp_path):
    from inference_service.model.tokenizer import Tokenizer
    from training.tokenizer import train_tokenizer

    text = "def add(first, second):\n    total = first + second\n    return total\n" * 30
    (tmp_path / "train.jsonl").write_text(json.dumps({"package": "p", "path": "a.py", "text": text}) + "\n")
    trained = train_tokenizer(tmp_path, 300)
    assert 256 < trained.vocab_size <= 300
    trained.save(tmp_path / "t.tiktoken")
    assert Tokenizer.load(tmp_path / "t.tiktoken").decode(trained.encode("é def add\n    x")) == "é def add\n    x"
    assert len(trained.encode("\n    return")) < 8
    assert np.array(trained.encode(text), dtype=np.uint16).max() < 300

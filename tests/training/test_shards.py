"""Prepared data: the corpus comes back whole and in order, however it was cut, interrupted or shared out."""

import json
import os
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.model.tokenizer import Tokenizer
from tests.training.prepared import BYTES, listed, write_corpus
from training.__main__ import main
from training.documents import BadDocuments
from training.shards import BadShard, load_tokenizer, open_split, prepare, verify_split

documents_strategy = st.lists(
    st.tuples(st.sampled_from(["one", "two", "drei"]), st.text(max_size=12), st.text(max_size=40)),
    min_size=1,
    max_size=6,
).filter(lambda documents: any(text for _, _, text in documents))


@settings(max_examples=25)
@given(documents=documents_strategy, shard_bytes=st.integers(80, 400), data=st.data())
def test_every_document_comes_back_in_order_for_any_size_of_shards(tmp_path_factory, documents, shard_bytes, data):
    folder = tmp_path_factory.mktemp("any")
    prepare(write_corpus(folder / "corpus", documents), "train", BYTES, folder, shard_bytes=shard_bytes)
    dataset = open_split(folder, "train", BYTES)
    assert [dataset.path(n) for n in range(len(dataset))] == [path for _, path, _ in documents]
    assert [BYTES.decode(dataset.document(n).tolist()) for n in range(len(dataset))] == [d[2] for d in documents]
    numbers = {package: dataset.package(n) for n, (package, _, _) in enumerate(documents)}
    assert [dataset.package(n) for n in range(len(dataset))] == [numbers[package] for package, _, _ in documents]
    assert len(set(numbers.values())) == len(numbers)

    position = data.draw(st.integers(0, dataset.total_tokens - 1))
    whole = np.concatenate([dataset.document(n) for n in range(len(dataset))])
    document, offset = dataset.document_at(position)
    assert dataset.document(document)[offset] == whole[position]
    assert sum(len(dataset.document(n)) for n in range(document)) + offset == position


def test_parts_in_any_order_make_the_same_data_as_one_run(corpus, tokenizer, data, tmp_path):
    for part in ((2, 3), (0, 3)):
        assert prepare(corpus, "train", tokenizer, tmp_path, part=part, shard_bytes=20_000) is None
        with pytest.raises(BadShard, match=r"train\.json is missing: run `midfill-train prepare`"):
            open_split(tmp_path, "train", tokenizer)
    manifest = prepare(corpus, "train", tokenizer, tmp_path, part=(1, 3), shard_bytes=20_000)
    assert len(manifest.shards) > 3
    assert listed(tmp_path, tokenizer) == listed(data, tokenizer)


def test_two_workers_write_what_one_writes(corpus, tokenizer, data, tmp_path, capfd):
    prepare(corpus, "train", tokenizer, tmp_path, workers=2, shard_bytes=20_000)
    assert listed(tmp_path, tokenizer) == listed(data, tokenizer)
    assert "100%" in capfd.readouterr().err


def test_a_corpus_that_changes_while_it_is_read_is_not_used(tokenizer, tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "corpus", [("p", f"{n}.py", "x = 1\n") for n in range(9)])
    encode = tokenizer.encode

    def another_collect_ends(text):
        os.utime(corpus / "train.jsonl", ns=(1, 1))
        return encode(text)

    with monkeypatch.context() as patch:
        patch.setattr(tokenizer, "encode", another_collect_ends)
        with pytest.raises(BadShard, match=r"train\.jsonl was replaced while it was read: run `midfill-train prepare`"):
            prepare(corpus, "train", tokenizer, tmp_path)
    assert not (tmp_path / "train.json").exists()


def test_what_is_open_stays_readable_when_it_is_replaced_and_travels_to_other_processes(tokenizer, tmp_path):
    prepare(write_corpus(tmp_path / "old", [("p", "old.py", "x = 1\n")] * 9), "train", tokenizer, tmp_path)
    dataset = open_split(tmp_path, "train", tokenizer)
    copied = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset)) < 2000
    prepare(write_corpus(tmp_path / "new", [("p", "new.py", "y = 2\n")] * 9), "train", tokenizer, tmp_path)
    for opened in (dataset, copied):
        assert opened.path(8) == "old.py"
        assert tokenizer.decode(opened.document(8).tolist()) == "x = 1\n"


def test_finished_shards_are_not_made_again(corpus, tokenizer, tmp_path):
    prepare(corpus, "train", tokenizer, tmp_path, part=(0, 2), shard_bytes=20_000)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tokens")}
    assert written
    prepare(corpus, "train", tokenizer, tmp_path, shard_bytes=20_000)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert len(list(tmp_path.rglob("*.tokens"))) > len(written)


def test_another_corpus_replaces_the_data_and_only_when_it_is_complete(tokenizer, tmp_path):
    old = write_corpus(tmp_path / "old", [("p", "old.py", "x = 1\n")] * 9)
    new = write_corpus(tmp_path / "new", [("p", "new.py", "y = 2\n")] * 9)
    prepare(old, "train", tokenizer, tmp_path, shard_bytes=100)
    prepare(new, "train", tokenizer, tmp_path, shard_bytes=100, part=(0, 2))
    assert listed(tmp_path, tokenizer)[0][1] == "old.py"
    prepare(new, "train", tokenizer, tmp_path, shard_bytes=100, part=(1, 2))
    assert listed(tmp_path, tokenizer)[0][1] == "new.py"
    assert len(list(tmp_path.glob("train-*"))) == 1, "the old shards still take room"


@pytest.mark.parametrize("suffix", ["tokens", "documents", "paths"])
def test_a_truncated_or_missing_file_is_named_and_made_again(corpus, tokenizer, tmp_path, suffix):
    prepare(corpus, "train", tokenizer, tmp_path, shard_bytes=20_000)
    before = listed(tmp_path, tokenizer)
    damaged = next(tmp_path.glob(f"train-*/00001.{suffix}"))
    os.truncate(damaged, damaged.stat().st_size - 1)
    with pytest.raises(BadShard, match=rf"00001\.{suffix} has .* bytes instead of .*: run `midfill-train"):
        open_split(tmp_path, "train", tokenizer)
    damaged.unlink()
    with pytest.raises(BadShard, match=rf"00001\.{suffix} is missing: run"):
        open_split(tmp_path, "train", tokenizer)
    prepare(corpus, "train", tokenizer, tmp_path, shard_bytes=20_000)
    assert listed(tmp_path, tokenizer) == before


def test_a_changed_byte_is_found_by_its_checksum(corpus, tokenizer, tmp_path, monkeypatch):
    prepare(corpus, "train", tokenizer, tmp_path, shard_bytes=20_000)
    damaged = next(tmp_path.glob("train-*/00002.tokens"))
    content = bytearray(damaged.read_bytes())
    content[100] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(BadShard, match=r"00002\.tokens is damaged.*: delete it and run `midfill-train prepare`"):
        open_split(tmp_path, "train", tokenizer)
    monkeypatch.setattr("training.shards.dataset._CHECKED_WHEN_OPENED", 0)  # as of a data set that is large
    with pytest.raises(BadShard, match=r"00002\.tokens is damaged"):
        open_split(tmp_path, "train", tokenizer).verify()
    damaged.unlink()
    prepare(corpus, "train", tokenizer, tmp_path, shard_bytes=20_000)
    assert verify_split(tmp_path, "train", tokenizer) == sum(
        len(tokens) for _, _, tokens in listed(tmp_path, tokenizer)
    )


def test_a_manifest_that_is_none_is_named(data, tokenizer, tmp_path):
    (tmp_path / "train.json").write_text("{}")
    with pytest.raises(BadShard, match=r"train\.json cannot be read .*: run `midfill-train prepare` again"):
        open_split(tmp_path, "train", tokenizer)


def test_data_of_another_tokenizer_is_refused(data):
    with pytest.raises(BadShard, match="another tokenizer"):
        open_split(data, "train", BYTES)


def test_a_folder_without_tokenizer_says_what_to_run(tmp_path):
    with pytest.raises(BadShard, match=r"tokenizer\.tiktoken is missing: run `midfill-train tokenizer`"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_beyond_16_bits_is_kept_in_32(tmp_path):
    pairs = [bytes([first, second]) for first in range(256) for second in range(256)]
    singles = [bytes([byte]) for byte in range(256)]
    large = Tokenizer({token: rank for rank, token in enumerate([*singles, *pairs, b"abc"])})
    assert large.vocab_size > 2**16
    prepare(write_corpus(tmp_path, [("p", "a.py", "abc = 1\n")]), "train", large, tmp_path)
    tokens = open_split(tmp_path, "train", large).document(0)
    assert tokens.dtype == np.uint32
    assert tokens.max() > 2**16
    assert large.decode(tokens.tolist()) == "abc = 1\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{broken", r"train\.jsonl, byte 48: not a document .*: run `midfill-train collect` again"),
        (b'{"package": "p", "text": "x"}', r"byte 48: no field 'path'"),
        (b'{"package": "p", "path": "p.py", "text": 1}', "byte 48: not a document"),
        (b'{"package": "p", "path": "p.py", "text": "\xff\xfe"}', "byte 48: not a document"),
        (b"[1, 2]", "byte 48: not a document"),
    ],
)
def test_a_line_that_is_no_document_is_named(tokenizer, tmp_path, line, message):
    first = json.dumps({"package": "p", "path": "a.py", "text": "x\n"}).encode()
    (tmp_path / "train.jsonl").write_bytes(first + b"\n" + line + b"\n")
    assert len(first) + 1 == 48
    with pytest.raises(BadDocuments, match=message):
        prepare(tmp_path, "train", tokenizer, tmp_path / "data")
    assert not list((tmp_path / "data").rglob("*.partial"))


def test_a_missing_or_empty_corpus_says_what_to_do(tokenizer, tmp_path):
    with pytest.raises(BadDocuments, match=r"train\.jsonl is missing: run `midfill-train collect` first"):
        prepare(tmp_path, "train", tokenizer, tmp_path)
    (tmp_path / "train.jsonl").touch()
    with pytest.raises(BadDocuments, match="holds no documents: give `midfill-train collect` more sources"):
        prepare(tmp_path, "train", tokenizer, tmp_path)
    (tmp_path / "heldout.jsonl").touch()  # a team with one repository: it can train, not evaluate
    prepare(tmp_path, "heldout", tokenizer, tmp_path)
    assert verify_split(tmp_path, "heldout", tokenizer) == 0
    with pytest.raises(BadShard, match="holds no documents: give `midfill-train collect` some code with --hold-out"):
        open_split(tmp_path, "heldout", tokenizer)


def midfill_train(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["midfill-train", *map(str, arguments)])
    main()


def test_the_stage_takes_parts_and_verifies_what_was_prepared(corpus, tokenizer, tmp_path, monkeypatch, capsys):
    tokenizer.save(tmp_path / "tokenizer.tiktoken")
    stage = ("prepare", "--corpus", corpus, "--data", tmp_path, "--workers", 1)
    midfill_train(monkeypatch, *stage, "--shard", "1/2")
    assert "train: this part is done, others are not yet" in capsys.readouterr().out
    midfill_train(monkeypatch, *stage, "--shard", "0/2")
    assert re.search(r"train: [\d,]+ tokens of \d+ files", capsys.readouterr().out)
    midfill_train(monkeypatch, *stage, "--verify")
    assert re.search(r"train: [\d,]+ tokens, as they were written", capsys.readouterr().out)
    with pytest.raises(SystemExit):
        midfill_train(monkeypatch, *stage, "--shard", "2/2")
    assert "'2/2' is no part of a whole: the parts of 8 are 0/8 to 7/8" in capsys.readouterr().err

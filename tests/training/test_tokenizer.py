"""Tokenizer training: code costs few tokens, sentinels stay ours, and the report compares honestly."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_service.model.tokenizer import SENTINELS, Tokenizer
from tests.conftest import BUNDLED_NANO
from training.__main__ import main
from training.documents import BadDocuments, blocks, read_block
from training.shards import load_tokenizer
from training.tokenizer import sample_texts, train_tokenizer
from training.tokenizer_report import report


@pytest.fixture(scope="module")
def trained(corpus) -> Tokenizer:
    return train_tokenizer(corpus, 2000)


@pytest.mark.parametrize("text", ["\n    ", "\n        ", "\n\n    ", "self", "(self", " in", " =", "()"])
def test_what_code_is_made_of_is_one_token(trained, text):
    assert len(trained.encode(f"0{text}0")) == 3


def test_a_line_break_is_a_token_of_its_own_with_the_indentation_after_it(trained):
    pieces = [trained.token_bytes(token) for token in trained.encode("def f(self):\n        return self\n\n\n")]
    assert all(piece.startswith(b"\n") for piece in pieces if b"\n" in piece)
    assert b"\n        " in pieces


@given(st.lists(st.one_of(st.text(), st.sampled_from(SENTINELS))).map("".join))
def test_no_text_yields_a_sentinel_and_every_text_comes_back(trained, text):
    tokens = trained.encode(text)
    assert not any(trained.is_sentinel(token) for token in tokens)
    assert trained.decode(tokens) == text


def test_training_gives_the_asked_number_of_ids_every_time_and_serving_reads_them(corpus, trained, tmp_path):
    assert trained.vocab_size == 2000
    trained.save(tmp_path / "t.tiktoken")
    assert Tokenizer.load(tmp_path / "t.tiktoken").digest == trained.digest
    assert train_tokenizer(corpus, 2000).digest == trained.digest


@given(documents=st.lists(st.text(), min_size=1, max_size=20), size=st.integers(1, 500))
def test_blocks_of_any_size_read_each_document_once_and_in_order(tmp_path_factory, documents, size):
    path = tmp_path_factory.mktemp("blocks") / "train.jsonl"
    path.write_text("".join(json.dumps({"package": "p", "path": "a.py", "text": text}) + "\n" for text in documents))
    read = [document for block in blocks(path, size) for document in read_block(block)]
    assert [document.text for document, _ in read] == documents
    assert sum(length for _, length in read) == path.stat().st_size


def test_a_large_corpus_is_sampled_from_all_its_parts(tmp_path):
    with (tmp_path / "train.jsonl").open("w") as file:
        for number in range(4000):
            file.write(json.dumps({"package": "p", "path": "a.py", "text": f"{number} " * 400}) + "\n")
    size = (tmp_path / "train.jsonl").stat().st_size
    texts = list(sample_texts(tmp_path, "train", size // 10))
    assert 0.05 * size < sum(map(len, texts)) < 0.2 * size
    tenths = {int(text.split()[0]) // 400 for text in texts}
    assert len(tenths) == 10
    assert texts == list(sample_texts(tmp_path, "train", size // 10))
    assert len(list(sample_texts(tmp_path, "train", size))) == 4000


def test_a_corpus_without_documents_says_what_to_do(tmp_path):
    with pytest.raises(BadDocuments, match=r"train\.jsonl is missing: run `midfill-train collect` first"):
        train_tokenizer(tmp_path, 2000)
    (tmp_path / "train.jsonl").touch()
    with pytest.raises(BadDocuments, match=r"train\.jsonl holds no documents: give `midfill-train collect` more"):
        train_tokenizer(tmp_path, 2000)


def test_a_vocabulary_that_cannot_hold_all_bytes_is_refused(corpus):
    with pytest.raises(ValueError, match=r"a vocabulary of 200 cannot hold all bytes: --vocab-size 261\+"):
        train_tokenizer(corpus, 200)


def test_the_report_counts_bytes_and_tells_what_it_could_not_compare_with(corpus, tokenizer, monkeypatch):
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    texts = [json.loads(line)["text"] for line in (corpus / "heldout.jsonl").open()]
    expected = sum(len(text.encode()) for text in texts) / sum(len(tokenizer.encode(text)) for text in texts)
    table = report({"mine": tokenizer}, corpus)
    assert f"| mine | 16,384 | {expected:.2f} |" in table
    assert "| gpt2 | not available: set TIKTOKEN_CACHE_DIR | |" in table
    assert "| cl100k | not available: set TIKTOKEN_CACHE_DIR | |" in table


@pytest.mark.full
def test_the_report_compares_with_gpt2_and_cl100k(corpus, tokenizer, monkeypatch, tmp_path):
    from tests.benchmarks.bench_tokenizer import fill_cache

    fill_cache(tmp_path)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    rows = [line.split(" | ") for line in report({"mine": tokenizer}, corpus).splitlines()]
    values = {row[0].strip("| "): (row[1], float(row[2].rstrip(" |"))) for row in rows[4:]}
    assert values["gpt2"][0] == "50,257"
    assert values["cl100k"][0] == "100,277"
    assert values["gpt2"][1] < values["mine"][1], "GPT-2 has no tokens for indentation"


def test_the_stage_trains_prints_the_report_and_can_print_it_again(corpus, tmp_path):
    command = [sys.executable, "-m", "training", "tokenizer", "--corpus", corpus, "--data", tmp_path]
    root = Path(__file__).parents[2]
    missing = subprocess.run([*command, "--report"], cwd=root, capture_output=True, text=True)
    assert missing.returncode == 1
    assert "tokenizer.tiktoken is missing: run `midfill-train tokenizer` first" in missing.stderr
    done = subprocess.run([*command, "--vocab-size", "600"], cwd=root, capture_output=True, text=True, check=True)
    again = subprocess.run([*command, "--report"], cwd=root, capture_output=True, text=True, check=True)
    assert "| this one | 600 |" in again.stdout
    assert done.stdout.endswith(again.stdout)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.tiktoken"]


def test_the_stage_takes_the_tokenizer_of_the_model_that_training_starts_from(corpus, tokenizer, tmp_path, monkeypatch):
    command = ["midfill-train", "tokenizer", "--init", BUNDLED_NANO, "--corpus", corpus, "--data", tmp_path]
    monkeypatch.setattr("sys.argv", [str(argument) for argument in command])
    main()
    assert load_tokenizer(tmp_path).digest == tokenizer.digest


def test_a_team_that_holds_nothing_out_has_a_tokenizer_and_is_told_what_is_not_measured(
    corpus, tmp_path, monkeypatch, capsys
):
    alone = tmp_path / "corpus"
    alone.mkdir()
    (alone / "train.jsonl").write_bytes((corpus / "train.jsonl").read_bytes())
    (alone / "heldout.jsonl").touch()
    command = ["midfill-train", "tokenizer", "--init", BUNDLED_NANO, "--corpus", alone, "--data", tmp_path]
    monkeypatch.setattr("sys.argv", [str(argument) for argument in command])
    main()
    told = capsys.readouterr()
    assert told.out == f"{tmp_path / 'tokenizer.tiktoken'} written\n"
    assert "heldout.jsonl holds no documents: give `midfill-train collect` some code with --hold-out" in told.err
    monkeypatch.setattr("sys.argv", [*map(str, command), "--report"])
    with pytest.raises(SystemExit, match="holds no documents"):
        main()

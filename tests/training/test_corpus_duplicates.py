"""Near-duplicates and benchmarks: what of a corpus goes because something like it is elsewhere."""

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.corpus_samples import Listed, documents, manifest, module
from training.corpus.collect import collect
from training.corpus.contamination import BadBenchmark, read_benchmarks
from training.corpus.near_duplicates import SHINGLE_WORDS, signature
from training.corpus.words import ngram_hashes, word_hashes

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def changed_a_little(text):
    return text.replace("return", "# here it ends\n    return", 1)


def test_near_duplicates_stay_out_within_and_across_packages_and_splits(tmp_path):
    original = module(1, functions=30)
    sources = [
        Listed("bandit", {"a.py": original, "b.py": changed_a_little(original), "other.py": module(2)}),  # held out
        Listed("flask", {"c.py": changed_a_little(original), "more.py": module(3)}),
    ]
    counts = collect(sources, tmp_path)
    assert sorted(documents(tmp_path)) == [("bandit", "a.py"), ("bandit", "other.py"), ("flask", "more.py")]
    assert counts["left out: near-duplicate"] == 2


def test_a_signature_is_the_same_on_every_machine():
    assert signature(word_hashes("The same words in the same order")).tolist()[:3] == [1554497261, 611064627, 738304159]


@given(st.integers(0, 100), st.integers(0, 2**32))
def test_signatures_estimate_the_similarity_of_the_shingles(changed, seed):
    words = np.random.default_rng(seed).integers(0, 2**32, (2, 400), dtype=np.uint32)
    one, other = words[0], words[0].copy()
    other[: 4 * changed] = words[1, : 4 * changed]
    shingles = [set(ngram_hashes(side, SHINGLE_WORDS).tolist()) for side in (one, other)]
    similarity = len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])
    assert abs(np.mean(signature(one) == signature(other)) - similarity) < 0.25  # five standard deviations


def benchmark(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(("shared", "kept"), [(10, False), (9, True)])
def test_ten_words_shared_with_a_benchmark_take_a_document_out(tmp_path, shared, kept):
    random.Random(0).shuffle(phrase := list(WORDS))
    record = {"task_id": "x/1", "prompt": "def f():", "checks": [{"test": f"{' '.join(phrase[:10])}. Alpha"}]}
    benchmarks = read_benchmarks([benchmark(tmp_path, "bench.jsonl", f"{json.dumps(record)}\n\n")])
    borrowed = f"{module(1)}\n\n# Beta, {'; '.join(phrase[:shared]).upper()}! Gamma\n"
    counts = collect([Listed("pkg", {"a.py": borrowed, "b.py": module(2)})], tmp_path / "corpus", benchmarks)
    assert (("pkg", "a.py") in documents(tmp_path / "corpus")) == kept
    assert counts.get("left out: contaminated", 0) == (not kept)
    assert [file["file"] for file in manifest(tmp_path / "corpus")["decontaminated"]] == ["bench.jsonl"]


def test_plain_text_is_a_benchmark_too(tmp_path):
    path = benchmark(tmp_path, "bench.py", module(1))
    collect([Listed("pkg", {"a.py": module(1), "b.py": module(2)})], tmp_path / "corpus", read_benchmarks([path]))
    assert list(documents(tmp_path / "corpus")) == [("pkg", "b.py")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.jsonl", None, "cannot be read"),
        ("packed.jsonl.gz", b"\x1f\x8b\x08\xff", "cannot be read"),
        ("broken.jsonl", b'{"prompt": "x"}\n{"prompt', "line 2 is not JSON"),
        ("short.jsonl", b'{"prompt": "too short"}\n', "no run of 10 words"),
    ],
)
def test_benchmarks_that_cannot_be_used_are_told(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadBenchmark, match=f"{name}.*{said}"):
        read_benchmarks([tmp_path / name])


def test_other_benchmarks_make_finished_sources_be_done_again(tmp_path):
    source = Listed("pkg", {"a.py": module(1), "b.py": module(2)})

    def interrupted():
        yield source
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(interrupted(), tmp_path / "corpus")
    benchmarks = read_benchmarks([benchmark(tmp_path, "bench.txt", module(1))])
    collect([source], tmp_path / "corpus", benchmarks)
    assert list(documents(tmp_path / "corpus")) == [("pkg", "b.py")]

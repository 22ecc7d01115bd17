"""Shards: parts of the sources, collected apart and made one corpus."""

import json
from collections import Counter

import pytest

from tests.training.corpus_samples import Listed, documents, manifest, module
from training.corpus.collect import collect
from training.corpus.corpus_files import BadCorpus
from training.corpus.shard import Shard, merge

COUNT = 3
COPIED = module(99, functions=30)


def sources():
    names = ["flask", "django", "bandit", "attrs", "rpyc", "numpy"]
    return [Listed(name, {"own.py": module(n), "copied.py": f"{COPIED}\n# {name}\n"}) for n, name in enumerate(names)]


@pytest.fixture
def shards(tmp_path):
    for index in range(COUNT):
        shard = Shard(index, COUNT)
        mine = [source for source in sources() if shard.takes(source.name)]
        collect(mine, shard.folder(tmp_path), may_be_empty=True)
    return tmp_path


def test_each_source_is_in_one_shard_and_shards_are_about_equal():
    taken = Counter(index for n in range(3000) for index in range(8) if Shard(index, 8).takes(f"package-{n}"))
    assert sum(taken.values()) == 3000
    assert max(taken.values()) < 1.3 * min(taken.values())


def test_merged_shards_are_a_corpus_without_duplicates_across_them(shards):
    apart = sum(len(documents(Shard(index, COUNT).folder(shards))) for index in range(COUNT))
    counts = merge(shards)
    merged = documents(shards)
    assert len(merged) == 7 < apart
    assert {name for name, path in merged if path == "own.py"} == {source.name for source in sources()}
    assert sum(source["files"] for source in manifest(shards)["sources"]) == 7
    assert counts["left out: near-duplicate"] == 5
    assert counts["train packages"] + counts["heldout packages"] == 6
    assert not (shards / ".collect").exists()


def test_merging_again_changes_nothing(shards):
    merge(shards)
    before = (shards / "train.jsonl").read_bytes()
    merge(shards)
    assert (shards / "train.jsonl").read_bytes() == before


def test_what_some_shards_were_not_cleaned_of_is_not_claimed_for_all(shards):
    path = Shard(0, COUNT).folder(shards) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"decontaminated": [{"file": "x", "sha256": "0"}]}))
    merge(shards)
    assert manifest(shards)["decontaminated"] == []


def test_missing_shards_shards_of_other_runs_and_cut_ones_are_told(shards, tmp_path_factory):
    with pytest.raises(BadCorpus, match=r"holds no shards: run collect with --shard"):
        merge(tmp_path_factory.mktemp("empty"))
    Shard(0, 7).folder(shards).mkdir()
    with pytest.raises(BadCorpus, match=r"several runs \(of \[3, 7\]\)"):
        merge(shards)
    Shard(0, 7).folder(shards).rmdir()
    first = Shard(0, COUNT).folder(shards)
    whole = (first / "train.jsonl").read_bytes()
    (first / "train.jsonl").write_bytes(whole[:-100])
    with pytest.raises(BadCorpus, match="shard-0-of-3 is cut short"):
        merge(shards)
    (first / "manifest.json").write_text("{")
    with pytest.raises(BadCorpus, match="shard-0-of-3 is not a corpus"):
        merge(shards)
    (first / "manifest.json").unlink()
    with pytest.raises(BadCorpus, match=r"shard-0-of-3 is missing or unfinished: run collect with --shard 0/3"):
        merge(shards)
    assert not (shards / "manifest.json").exists()

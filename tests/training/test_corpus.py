"""Collecting: what gets in, what stays out, and which split it is in."""

import json
from collections import Counter

import pytest

from tests.training.corpus_samples import CODE, Listed, documents, manifest, module, write_files
from training.corpus.collect import collect
from training.corpus.filters import rejected_path, rejected_text
from training.corpus.folders import folder_source
from training.corpus.sources import NotUsable
from training.corpus.split import split_of


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("pkg/core.py", True),
        ("pkg/_vendor/six.py", False),
        ("tests/helpers.py", False),
        (".tox/py311/x.py", False),
        ("pkg/test_core.py", False),
        ("pkg/api_pb2.py", False),
        ("pkg/contest.py", True),
    ],
)
def test_paths(path, kept):
    assert (rejected_path(path) is None) == kept


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CODE, None),
        ("x = 1\n", "short"),
        ("# This file was automatically generated\n" + CODE, "generated"),
        ("x = '" + "a" * 2000 + "'\n" + CODE, "minified or data"),
        ("X = [\n" + "    1234567890, 9876543210,\n" * 30 + "]\n", "data table"),
        ("def broken(:\n" + CODE, "does not parse"),
        (CODE + "\0", "binary"),
        (CODE * 5000, "long"),
    ],
)
def test_texts(text, reason):
    assert rejected_text(text) == reason


def test_collect_filters_and_deduplicates(tmp_path):
    project = write_files(
        tmp_path / "project",
        {
            "pkg/shapes.py": CODE,
            "pkg/copy.py": CODE.replace("    ", "      "),
            "pkg/other.py": module(1).replace("\n", "\r\n"),
            "pkg/tiny.py": "x = 1\n",
        },
    )
    (project / "pkg" / "latin.py").write_bytes(b"# \xe9\n" + CODE.encode())
    (project / "pkg" / "marked.py").write_bytes(b"\xef\xbb\xbf" + module(2).encode())
    counts = collect([folder_source(project, "project", "1", "MIT")], tmp_path / "corpus")
    kept = documents(tmp_path / "corpus")
    assert {path for _, path in kept} == {"pkg/copy.py", "pkg/other.py", "pkg/marked.py"}
    assert kept["project", "pkg/other.py"] == module(1)
    assert kept["project", "pkg/marked.py"] == module(2)
    assert counts["left out: duplicate"] == 1
    assert counts["left out: broken encoding"] == 1
    assert counts["left out: short"] == 1
    (source,) = manifest(tmp_path / "corpus")["sources"]
    assert source["licence"] == "MIT"
    assert source["files"] == 3
    assert source["chars"] == sum(map(len, kept.values()))


def test_the_files_are_what_the_later_stages_read(tmp_path):
    collect([Listed("pkg", {"a.py": module(1)})], tmp_path)
    line = (tmp_path / f"{split_of('pkg')}.jsonl").read_text()
    assert json.loads(line) == {"package": "pkg", "path": "a.py", "text": module(1)}


def test_split_depends_on_the_package_alone_and_is_about_a_twentieth():
    splits = Counter(split_of(f"package-{n}") for n in range(4000))
    assert 0.035 < splits["heldout"] / 4000 < 0.065
    assert split_of("Django") == split_of("django")
    assert split_of("python-stdlib") == "train"


def test_the_held_out_packages_of_the_bundled_model_stay_held_out():
    held_out = ["bandit", "ipython", "jsonpickle", "mistune", "rpyc", "lightning", "wasabi", "sqlfluff", "manim"]
    assert {split_of(name) for name in held_out} == {"heldout"}
    assert {split_of(name) for name in ("flask", "numpy", "requests", "django")} == {"train"}


def test_a_giant_package_is_cut_to_a_share_of_its_files_in_their_order(tmp_path):
    files = {f"m{n:02}.py": module(n) for n in range(40)}
    counts = collect([Listed("giant", files, max_chars=10 * len(module(0)))], tmp_path)
    kept = [path for _, path in documents(tmp_path)]
    assert 8 <= len(kept) <= 11
    assert kept == sorted(kept)
    assert counts["left out: more than one package may hold"] == 40 - len(kept)


def test_several_processes_write_the_same_corpus_as_one(tmp_path):
    sources = [Listed(f"p{n}", {f"m{k}.py": module(10 * n + k) for k in range(4)}) for n in range(4)]
    collect(sources, tmp_path / "one")
    collect(sources, tmp_path / "two", processes=2)
    for name in ("train.jsonl", "heldout.jsonl", "manifest.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_nothing_usable_is_an_error_that_says_why_and_keeps_the_old_corpus(tmp_path):
    out = tmp_path / "corpus"
    collect([Listed("good", {"a.py": module(1)})], out)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(NotUsable, match=r"no file was left .*1 left out: short"):
        collect([Listed("bad", {"a.py": "x = 1\n"})], out)
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before

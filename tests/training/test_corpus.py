"""Collecting: what gets in, what stays out, and that a corpus is never left half written."""

import io
import json
import tarfile
from collections import Counter
from email.message import Message

import pytest

from training.corpus.collect import at_most, collect, read_package_list, split_of
from training.corpus.filters import rejected_path, rejected_text
from training.corpus.licences import permissive_licence
from training.corpus.sources import NotUsable, folder_source, sdist_source

CODE = """def area(width, height):
    return width * height


def perimeter(width, height):
    return 2 * (width + height)
"""


def metadata(**headers):
    message = Message()
    for name, values in headers.items():
        for value in [values] if isinstance(values, str) else values:
            message[name.replace("_", "-")] = value
    return message


@pytest.mark.parametrize(
    ("headers", "licence"),
    [
        ({"License_Expression": "MIT"}, "MIT"),
        ({"License_Expression": "Apache-2.0 OR BSD-3-Clause"}, "Apache-2.0 OR BSD-3-Clause"),
        ({"License_Expression": "MIT AND GPL-3.0-only"}, None),
        ({"Classifier": ["License :: OSI Approved :: BSD License"]}, "BSD License"),
        ({"Classifier": ["License :: OSI Approved :: GNU General Public License (GPL)"]}, None),
        ({"Classifier": ["License :: OSI Approved"], "License": "ISC"}, "ISC"),
        ({"License": "LGPL-2.1"}, None),
        ({"License": "MPL-2.0"}, None),
        ({"License": "UNKNOWN"}, None),
        ({"License": "MIT License\n" + "Permission is hereby granted " * 20}, None),
        ({}, None),
    ],
)
def test_only_named_permissive_licences_get_in(headers, licence):
    assert permissive_licence(metadata(**headers)) == licence


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("pkg/core.py", True),
        ("pkg/_vendor/six.py", False),
        ("tests/helpers.py", False),
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


@pytest.fixture
def folder(tmp_path):
    project = tmp_path / "project"
    (project / "pkg").mkdir(parents=True)
    (project / "pkg" / "shapes.py").write_text(CODE)
    (project / "pkg" / "copy.py").write_text(CODE.replace("    ", "      "))
    (project / "pkg" / "other.py").write_text(CODE.replace("width", "breadth").replace("\n", "\r\n"))
    (project / "pkg" / "latin.py").write_bytes(b"# \xe9\n" + CODE.encode())
    return project


def test_collect_filters_and_deduplicates(folder, tmp_path):
    counts = collect([folder_source(folder, "project", "1", "MIT")], tmp_path / "corpus")
    split = split_of("project")
    documents = [json.loads(line) for line in (tmp_path / "corpus" / f"{split}.jsonl").read_text().splitlines()]
    assert {document["path"] for document in documents} <= {"pkg/copy.py", "pkg/shapes.py", "pkg/other.py"}
    assert len(documents) == 2
    assert "\r" not in "".join(document["text"] for document in documents)
    assert counts["left out: duplicate"] == 1
    manifest = json.loads((tmp_path / "corpus" / "manifest.json").read_text())
    assert manifest["sources"][0]["licence"] == "MIT"


def test_nothing_usable_is_an_error_and_keeps_the_old_corpus(folder, tmp_path):
    out = tmp_path / "corpus"
    collect([folder_source(folder, "project", "1", "MIT")], out)
    before = (out / "manifest.json").read_text()
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotUsable, match="no file was left"):
        collect([folder_source(tmp_path / "empty", "empty", "1", "MIT")], out)
    assert (out / "manifest.json").read_text() == before
    assert not list(out.glob("*.partial"))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(NotUsable, match="nowhere is not a folder"):
        folder_source(tmp_path / "nowhere", "x", "1", "MIT")


def test_split_depends_on_the_package_alone_and_is_about_a_twentieth():
    splits = Counter(split_of(f"package-{n}") for n in range(4000))
    assert 0.035 < splits["heldout"] / 4000 < 0.065
    assert split_of("Django") == split_of("django")
    assert split_of("python-stdlib") == "train"


def test_a_giant_is_cut_to_a_share_of_its_files():
    files = [(f"pkg/m{n}.py", "x" * 100) for n in range(50)]
    kept = at_most(1000, files)
    assert len(kept) == 10
    assert kept == [file for file in files if file in kept]
    assert at_most(5000, files) == files


def test_package_lists_take_comments_and_blanks(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# popular\nflask  django\n\nflask attrs\n")
    assert read_package_list(path) == ["flask", "django", "attrs"]


def archive(path, licence, files):
    with tarfile.open(path, "w:gz") as tar:
        members = {"PKG-INFO": f"Name: demo\nVersion: 2\nLicense: {licence}\n", **files}
        for name, text in members.items():
            info = tarfile.TarInfo(f"demo-2/{name}")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


def test_a_source_distribution_is_read_without_unpacking_or_running_it(tmp_path):
    path = archive(
        tmp_path / "demo-2.tar.gz",
        "MIT",
        {"demo/a.py": CODE, "setup.py": "raise SystemExit('never run')\n", "README": "x"},
    )
    source = sdist_source(path, "abc")
    assert (source.name, source.version, source.licence) == ("demo", "2", "MIT")
    assert dict(source.read_files()) == {"demo/a.py": CODE, "setup.py": "raise SystemExit('never run')\n"}


def test_unusable_archives_say_why(tmp_path):
    with pytest.raises(NotUsable, match="licence"):
        sdist_source(archive(tmp_path / "gpl.tar.gz", "GPL", {}), "")
    (tmp_path / "cut.tar.gz").write_bytes(
        archive(tmp_path / "whole.tar.gz", "MIT", {"a.py": CODE * 50}).read_bytes()[:60]
    )
    with pytest.raises(NotUsable, match="cannot be read"):
        sdist_source(tmp_path / "cut.tar.gz", "")

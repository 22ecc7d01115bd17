"""Where documents come from: folders, git checkouts, archives, and the licences they are under."""

import os
import tracemalloc
from collections import Counter
from email.message import Message

import pytest

from tests.training.corpus_samples import CODE, archive, checkout, documents, git, manifest, module, write_files
from training.corpus.archives import sdist_source
from training.corpus.checkouts import OWNED, checkout_source, own_source
from training.corpus.collect import collect
from training.corpus.folders import folder_source
from training.corpus.licences import permissive_licence
from training.corpus.package_index import BadPackageList, package_sources, read_package_list
from training.corpus.project_licence import licence_of_text, project_licence
from training.corpus.sources import NoLicence, NotUsable

MIT_TEXT = """Copyright (c) 2020 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal ..."""


def metadata(**headers):
    message = Message()
    for name, values in headers.items():
        for value in [values] if isinstance(values, str) else values:
            message[name.replace("_", "-")] = value
    return message


def read(source):
    counts = Counter()
    return {path: content.decode() for path, content in source.read(counts)}, counts


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
    ("files", "licence"),
    [
        ({"pyproject.toml": '[project]\nlicense = "MIT"\n'}, "MIT"),
        ({"pyproject.toml": '[project]\nlicense = {text = "BSD-3-Clause"}\n'}, "BSD-3-Clause"),
        ({"pyproject.toml": '[tool.poetry]\nlicense = "Apache-2.0"\n'}, "Apache-2.0"),
        ({"pyproject.toml": '[project]\nlicense = "GPL-3.0-only"\n', "LICENSE": MIT_TEXT}, None),
        ({"setup.cfg": "[metadata]\nlicense = ISC\n"}, "ISC"),
        ({"setup.cfg": "[metadata]\nclassifiers =\n    License :: OSI Approved :: MIT License\n"}, "MIT License"),
        ({"pyproject.toml": '[project]\nlicense = {file = "LICENSE"}\n', "LICENSE": MIT_TEXT}, "MIT"),
        ({"LICENCE.txt": MIT_TEXT}, "MIT"),
        ({"LICENSE": MIT_TEXT, "COPYING": "GNU GENERAL PUBLIC LICENSE\nVersion 3"}, None),
        ({"LICENSE": "All rights reserved."}, None),
        ({"pyproject.toml": "broken ["}, None),
        ({}, None),
    ],
)
def test_the_licence_of_a_checkout_is_in_its_metadata_or_its_licence_file(tmp_path, files, licence):
    assert project_licence(write_files(tmp_path, files)) == licence


def test_the_text_of_our_own_licence_is_recognised():
    from tests.training.conftest import PACKAGE

    assert licence_of_text((PACKAGE.parent / "LICENSE").read_text()) == "Apache-2.0"


def test_a_folder_leaves_out_environments_links_and_what_is_no_file(tmp_path):
    outside = write_files(tmp_path / "outside", {"secret.py": module(9)})
    project = write_files(
        tmp_path / "project",
        {
            "core.py": module(1),
            "my-python/pyvenv.cfg": "home = /usr\n",
            "my-python/lib/installed.py": module(2),
            ".cache/x.py": module(3),
            "node_modules/gyp.py": module(4),
            "a/node_modules/deep/er.py": module(5),
        },
    )
    (project / "link.py").symlink_to(outside / "secret.py")
    (project / "inside.py").symlink_to(project / "core.py")
    (project / "linked").symlink_to(outside)
    (project / "gone.py").symlink_to(project / "nowhere")
    os.mkfifo(project / "pipe.py")
    files, counts = read(folder_source(project, "project", "0", "MIT"))
    assert files == {"core.py": module(1), "inside.py": module(1)}
    assert counts["left out: a link that leaves the folder"] == 1
    assert counts["left out: unreadable"] == 1
    assert counts["left out: not a file"] == 1
    assert counts["left out: whole folders (environments, caches, vendored, tests)"] == 4


def test_a_file_of_200_megabytes_is_left_out_without_being_read(tmp_path):
    project = write_files(tmp_path / "project", {"core.py": module(1)})
    with (project / "huge.py").open("wb") as file:
        file.truncate(200 * 2**20)
    tracemalloc.start()
    counts = collect([folder_source(project, "project", "0", "MIT")], tmp_path / "corpus")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counts["left out: long"] == 1
    assert counts[next(key for key in counts if key.endswith(" files"))] == 1
    assert peak < 50 * 2**20


def test_the_digest_of_a_folder_is_that_of_its_list_of_sha256_sums(tmp_path):
    project = write_files(tmp_path / "project", {"a.py": "", "b/c.py": "x = 1\n"})
    before = folder_source(project, "p", "0", "MIT").sha256
    assert before == "c4dce9a4335140416ed1071422f401e9b968b6eaada78f0e08ff05c63e8fb690"
    (project / "b" / "c.py").write_text("x = 2\n")
    assert folder_source(project, "p", "0", "MIT").sha256 != before


def test_a_checkout_gives_the_files_that_git_tracks_at_its_commit(tmp_path):
    project = checkout(tmp_path / "project", {"a.py": module(1), "LICENSE": MIT_TEXT})
    write_files(project, {"untracked.py": module(2)})
    source = own_source(project, None)
    assert (source.version, source.licence) == (git(project, "rev-parse", "HEAD").strip(), "MIT")
    assert read(source)[0] == {"a.py": module(1)}
    (project / "a.py").write_text(module(3))
    assert own_source(project, None).version.endswith("-dirty")


def test_a_tracked_environment_stays_out(tmp_path):
    project = checkout(
        tmp_path / "project", {"a.py": module(1), "py3/pyvenv.cfg": "home = /usr\n", "py3/lib/x.py": module(2)}
    )
    files, counts = read(own_source(project, None))
    assert list(files) == ["a.py"]
    assert counts["left out: in a virtual environment"] == 1


def test_own_code_without_a_licence_is_its_owners_and_other_peoples_stays_out(tmp_path):
    project = checkout(tmp_path / "project", {"a.py": module(1)})
    assert own_source(project, None).licence == OWNED
    with pytest.raises(NoLicence, match=r"project: no permissive licence .* --licence"):
        checkout_source(project, None)
    assert checkout_source(project, "MIT").licence == "MIT"


def test_a_folder_that_is_no_checkout_or_a_broken_one_is_told(tmp_path):
    plain = write_files(tmp_path / "plain", {"a.py": module(1)})
    with pytest.raises(NotUsable, match=r"plain is not a git checkout: .* --folder"):
        checkout_source(plain, "MIT")
    (plain / ".git").mkdir()
    with pytest.raises(NotUsable, match="plain: git cannot read this checkout"):
        own_source(plain, None)


def test_missing_and_empty_folders_are_told(tmp_path):
    with pytest.raises(NotUsable, match="nowhere is not a folder: give"):
        folder_source(tmp_path / "nowhere", "x", "1", "MIT")
    write_files(tmp_path, {"README.md": "no code"})
    with pytest.raises(NotUsable, match=f"{tmp_path} holds no Python file: give"):
        folder_source(tmp_path, "x", "1", "MIT")


def test_package_lists_take_comments_and_blanks(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# popular\nflask  django\n\nflask attrs\n")
    assert read_package_list(path) == ["flask", "django", "attrs"]


def test_package_lists_that_cannot_be_used_are_told(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "empty.txt").write_text("# nothing yet\n")
    for name, said in [("none.txt", "cannot be read"), ("latin.txt", "cannot be read"), ("empty.txt", "no package")]:
        with pytest.raises(BadPackageList, match=f"{name}.*{said}"):
            read_package_list(tmp_path / name)
    with pytest.raises(BadPackageList, match="cannot be read"):
        read_package_list(tmp_path)


def test_a_source_distribution_is_read_without_unpacking_or_running_it(tmp_path):
    setup = "raise SystemExit('never run')\n"
    files = {
        "demo/a.py": CODE,
        "setup.py": setup,
        "README": "x",
        "demo/big.py": "x = 1\n" * 200_000,
        "tests/b.py": CODE,
    }
    source = sdist_source(archive(tmp_path / "demo-2.tar.gz", "MIT", files))
    assert (source.name, source.version, source.licence) == ("demo", "2", "MIT")
    found, counts = read(source)
    assert found == {"demo/a.py": CODE, "setup.py": setup}
    assert counts == {"left out: long": 1, "left out: in a left-out folder": 1}


def test_downloads_are_used_again_and_what_is_not_usable_is_told_and_left_out(tmp_path):
    archive(tmp_path / "demo-2.tar.gz", "MIT", {"a.py": module(1)})
    archive(tmp_path / "free_lib-2.tar.gz", "GPL", {"a.py": module(2)}, name="free_lib")
    whole = archive(tmp_path / "cut.tar.gz", "MIT", {f"m{n}.py": module(n) for n in range(30)}, name="cut").read_bytes()
    (tmp_path / "cut.tar.gz").unlink()
    (tmp_path / "cut-1.tar.gz").write_bytes(whole[:60])
    (tmp_path / "late-1.tar.gz").write_bytes(whole[:-2000])
    sources = list(package_sources(["Demo", "free-lib", "cut", "late"], tmp_path))
    assert "free-lib: licence not known" in str(sources[1])
    assert "cannot be read" in str(sources[2])
    counts = collect(sources, tmp_path / "corpus")
    assert counts["left out: source"] == 3
    assert [source["name"] for source in manifest(tmp_path / "corpus")["sources"]] == ["demo"]
    assert list(documents(tmp_path / "corpus")) == [("demo", "a.py")]

"""The command: its example, its mistakes, and that it can be interrupted at any time."""

import resource
import shlex
import signal
import subprocess
import sys
import time

import pytest

from tests.training.corpus_samples import Listed, archive, documents, manifest, module, write_files
from tests.tries import tries
from training.__main__ import main
from training.corpus.checkouts import own_source
from training.corpus.collect import collect


def run(monkeypatch, *arguments):
    """What the command says when it fails, None when it does not."""
    monkeypatch.setattr(sys, "argv", ["midfill-train", "collect", "--workers", "1", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return end.code
    return None


def start(*arguments, before=None):
    command = [sys.executable, "-m", "training", "collect", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def project(tmp_path):
    return write_files(tmp_path / "project", {f"m{n}.py": module(n) for n in range(3)})


def test_the_example_of_the_help_works(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    assert run(monkeypatch, "--help") == 0
    example = " ".join(capsys.readouterr().out.split("example: midfill-train collect ")[1].split())
    assert run(monkeypatch, *shlex.split(example)) is None
    assert len(documents(project / ".runs" / "corpus")) == 3


def test_all_options_together(project, tmp_path, monkeypatch, capsys):
    archive(tmp_path / "cache-demo-2.tar.gz", "MIT", {})
    (tmp_path / "cache").mkdir()
    archive(tmp_path / "cache" / "demo-2.tar.gz", "MIT", {"a.py": module(10)})
    archive(tmp_path / "cache" / "unknown-2.tar.gz", "", {"a.py": module(11)}, name="unknown")
    (tmp_path / "list.txt").write_text("demo unknown\n")
    (tmp_path / "bench.txt").write_text(module(0))
    common = ("--folder", project, "--packages", tmp_path / "list.txt", "--cache", tmp_path / "cache")
    clean = ("--licence", "MIT", "--decontaminate", tmp_path / "bench.txt")
    assert run(monkeypatch, *common, *clean, "--out", tmp_path / "whole") is None
    assert "left out: unknown: licence not known to be permissive" in capsys.readouterr().err
    assert set(documents(tmp_path / "whole")) == {("project", "m1.py"), ("project", "m2.py"), ("demo", "a.py")}
    assert {source["licence"] for source in manifest(tmp_path / "whole")["sources"]} == {"MIT"}
    for part in ("0/2", "1/2"):
        assert run(monkeypatch, *common, *clean, "--shard", part, "--out", tmp_path / "parts") is None
    assert run(monkeypatch, "--merge", "--out", tmp_path / "parts") is None
    assert documents(tmp_path / "parts") == documents(tmp_path / "whole")


def test_mistakes_are_one_sentence_and_damage_nothing(project, tmp_path, monkeypatch):
    out = tmp_path / "corpus"
    assert run(monkeypatch, "--folder", project, "--out", out) is None
    before = contents(out)
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_bytes(b"\xff")
    write_files(tmp_path / "tiny", {"a.py": "x = 1\n"})
    checkout = write_files(tmp_path / "clone", {"a.py": module(5)})
    subprocess.run(["git", "init", "--quiet", checkout], check=True)
    (tmp_path / "file").write_text("")
    for arguments, said in [
        ([], "no source given"),
        (["--folder", tmp_path / "nowhere"], "nowhere is not a folder"),
        (["--folder", tmp_path / "empty"], "empty holds no Python file"),
        (["--folder", tmp_path / "tiny"], "no file was left after filtering (1 left out: short)"),
        (["--checkout", project], "project is not a git checkout"),
        (["--checkout", checkout], "no file was left after filtering (1 left out: source)"),
        (["--packages", tmp_path / "list.txt"], "list.txt cannot be read"),
        (["--packages", tmp_path / "none.txt"], "none.txt cannot be read"),
        (["--folder", project, "--decontaminate", tmp_path / "bench"], "bench cannot be read"),
        (["--merge"], "holds no shards"),
    ]:
        message = run(monkeypatch, *arguments, "--out", out)
        assert message.startswith("midfill-train collect: ")
        assert said in message
        assert "\n" not in message
    assert contents(out) == before
    assert "file is not a folder" in run(monkeypatch, "--folder", project, "--out", tmp_path / "file")


def test_an_interrupted_run_goes_on_where_it_was_and_leaves_the_earlier_corpus(tmp_path):
    sources = [Listed(name, {"a.py": module(n), "b.py": module(10 + n)}) for n, name in enumerate(("p", "q", "r"))]
    collect([Listed("earlier", {"a.py": module(50)})], tmp_path)
    before = contents(tmp_path)

    def interrupted():
        yield from sources[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(interrupted(), tmp_path)
    assert contents(tmp_path) == before
    collect(sources, tmp_path)
    assert [source.reads for source in sources] == [["p"], ["q"], ["r"]]
    assert [name for name, _ in documents(tmp_path)] == ["p", "p", "q", "q", "r", "r"]
    assert not (tmp_path / ".collect").exists()


def test_a_changed_file_is_read_again_after_an_interrupt(project, tmp_path):
    def interrupted():
        yield own_source(project, None)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(interrupted(), tmp_path / "corpus")
    (project / "m1.py").write_text(module(40))
    collect([own_source(project, None)], tmp_path / "corpus")
    assert documents(tmp_path / "corpus")["project", "m1.py"] == module(40)


def test_a_killed_run_leaves_the_earlier_corpus_and_the_next_one_finishes(tmp_path, monkeypatch):
    project = write_files(tmp_path / "project", {f"m{n:04}.py": module(n, functions=12) for n in range(1200)})
    whole = tmp_path / "whole"
    for number in tries():
        out = tmp_path / f"corpus{number}"
        collect([Listed("earlier", {"a.py": module(5000)})], out)
        before = contents(out)
        process = start("--folder", project, "--workers", 1, "--out", out)
        journal = out / ".collect"
        while process.poll() is None and not any(not path.suffix for path in journal.glob("*")):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate()
        if process.returncode == -signal.SIGKILL:
            break
        assert process.returncode == 0, said
    assert contents(out) == before
    for folder in (out, whole):
        assert run(monkeypatch, "--folder", project, "--out", folder) is None
    assert contents(out) == contents(whole)
    assert len(documents(out)) == 1200


def test_a_full_disk_is_told_and_the_earlier_corpus_stays(tmp_path, monkeypatch):
    project = write_files(tmp_path / "project", {f"m{n}.py": module(n, functions=40) for n in range(20)})
    out = tmp_path / "corpus"
    collect([Listed("earlier", {"a.py": module(50)})], out)
    before = contents(out)
    process = start(
        *("--folder", project, "--workers", 2, "--out", out),
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
    )
    stderr = process.communicate()[1]
    assert process.returncode == 1
    assert f"midfill-train collect: {out}: no room left on the disk" in stderr
    assert "Traceback" not in stderr
    assert contents(out) == before
    assert not list(out.rglob("*.partial"))
    assert run(monkeypatch, "--folder", project, "--out", out) is None
    assert len(documents(out)) == 20


def test_a_folder_can_be_held_out(project, tmp_path, monkeypatch):
    write_files(tmp_path / "measured", {"a.py": module(20)})
    out = tmp_path / "out"
    assert run(monkeypatch, "--folder", project, "--hold-out", tmp_path / "measured", "--out", out) is None
    assert {source["name"]: source["split"] for source in manifest(out)["sources"]} == {
        "project": "train",
        "measured": "heldout",
    }
    assert "measured" in (out / "heldout.jsonl").read_text()

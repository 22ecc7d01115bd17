"""The command line of all stages."""

import json
import subprocess
import sys

import pytest

from tests.training.toy import toy_file
from training import checkpoint
from training.__main__ import main


def test_a_mistake_is_one_sentence_and_an_exit_code(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "training", "train", "nosuch"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("midfill-train train: no recipe")
    assert "Traceback" not in done.stderr


def test_every_recipe_is_trained_in_a_folder_of_its_own_and_published_from_there(data, tmp_path, monkeypatch):
    def midfill_train(*arguments):
        monkeypatch.setattr(sys, "argv", ["midfill-train", *map(str, arguments)])
        main()

    monkeypatch.chdir(tmp_path)
    midfill_train("train", toy_file(tmp_path), "--data", data, "--threads", 1, "--eager")
    assert (tmp_path / ".runs" / "toy" / checkpoint.FILE).is_file()
    (tmp_path / "manifest.json").write_text(json.dumps({"sources": []}))
    with pytest.raises(SystemExit, match=r"\.runs/small/checkpoint\.safetensors is missing"):
        midfill_train("publish", "small", "--data", data, "--corpus", tmp_path, "--out", tmp_path / "model")

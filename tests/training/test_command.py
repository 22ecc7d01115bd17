"""The command line of all stages."""

import subprocess
import sys


def test_a_mistake_is_one_sentence_and_an_exit_code(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "training", "train", "nosuch"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("midfill-train train: no recipe")
    assert "Traceback" not in done.stderr

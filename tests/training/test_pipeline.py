"""From a folder of code to a served completion, with the documented commands only."""

import shutil
import subprocess
import sys

from inference_service.backends.local import LocalBackend
from inference_service.engine.request import CompletionRequest
from tests.conftest import BUNDLED_NANO

RECIPE = """
[model]
vocab_size = 600
n_layer = 2
n_head = 2
n_kv_head = 1
d_model = 64
d_ff = 128
context_length = 512
[train]
total_tokens = 81920
batch_tokens = 1024
row_tokens = 256
warmup_steps = 5
"""


def midfill_train(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, "-m", "training", *map(str, arguments)], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_folder_to_completion(tmp_path):
    for name in ("one", "held"):  # the second is a name that the split holds out
        shutil.copytree(
            BUNDLED_NANO.parents[1] / "engine", tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    held_out = next(f"project{n}" for n in range(500) if _split(f"project{n}") == "heldout")
    (tmp_path / "held").rename(tmp_path / held_out)
    for path in (tmp_path / held_out).glob("*.py"):
        path.write_text(path.read_text().replace("self", "this"))
    (tmp_path / "toy.toml").write_text(RECIPE)
    midfill_train(
        "collect", "--folder", tmp_path / "one", "--folder", tmp_path / held_out, "--out", "corpus", cwd=tmp_path
    )
    midfill_train("tokenizer", "--corpus", "corpus", "--data", "data", "--vocab-size", 600, cwd=tmp_path)
    assert "train: " in midfill_train("prepare", "--corpus", "corpus", "--data", "data", cwd=tmp_path)
    midfill_train("train", "toy.toml", "--data", "data", "--out", "run", "--threads", 1, "--eager", cwd=tmp_path)
    stages = ("--run", "run", "--data", "data", "--corpus", "corpus", "--out", "model")
    assert "bits_per_byte" in midfill_train("publish", "toy.toml", *stages, cwd=tmp_path)

    backend = LocalBackend(str(tmp_path / "model"), device="cpu")
    await backend.start()
    request = CompletionRequest("    def step(self", suffix="\n", max_tokens=8)
    text = "".join([chunk.text async for chunk in backend.complete(request)])
    await backend.stop()
    assert text
    assert "bits per byte" in (tmp_path / "model" / "card.md").read_text()


def test_a_mistake_is_one_sentence_and_an_exit_code(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "training", "train", "nosuch"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("midfill-train train: no recipe")
    assert "Traceback" not in done.stderr


def _split(name):
    from training.corpus.collect import split_of

    return split_of(name)

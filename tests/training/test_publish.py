"""Publishing: only a good model gets out, and what was there before stays until then."""

import dataclasses
import json
import math
import resource
import sys

import pytest
import torch

from inference_service.model import directory
from inference_service.model.gpt import GPT, GPTConfig
from inference_service.model.tokenizer import END_OF_TEXT
from tests.conftest import BUNDLED_NANO
from tests.training.small_data import write_small_data
from training import checkpoint
from training.__main__ import main
from training.card import licence_family
from training.evaluate.drift import Drift
from training.golden import GoldenTestFailed, check_golden, golden_texts
from training.recipe import Recipe, TrainConfig

pytestmark = pytest.mark.usefixtures("one_thread")

TRAINING = TrainConfig(total_tokens=2560, batch_tokens=256, row_tokens=64)
SOURCES = [
    {"name": name, "version": "1", "licence": licence, "sha256": "", "split": split, "files": 3, "chars": 9000}
    for name, licence, split in (
        ("one", "MIT License", "train"),
        ("two", "MIT", "train"),
        ("three", "BSD-3-Clause", "heldout"),
    )
]


@pytest.fixture(scope="module")
def small(tokenizer, tmp_path_factory):
    return write_small_data(tmp_path_factory.mktemp("small"), tokenizer, 2)


@pytest.fixture
def publish(tmp_path, small, monkeypatch, capsys):
    """Runs the stage on tmp_path's run and corpus; returns what it printed."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    manifest = {"sources": SOURCES, "counts": {}, "decontaminated": [{"file": "mine.jsonl", "sha256": ""}]}
    (corpus / "manifest.json").write_text(json.dumps(manifest))

    def run(out, *more):
        stage = ["toy", "--run", tmp_path / "run", "--data", small, "--corpus", corpus, "--out", out, *more]
        monkeypatch.setattr(sys, "argv", ["midfill-train", "publish", *map(str, stage)])
        main()
        return capsys.readouterr().out

    return run


def random_model(tokenizer):
    """Says something, and the same in int8: its embedding is large, its layers are small."""
    model = GPT(GPTConfig(tokenizer.vocab_size, 1, 2, 1, 32, 64, context_length=512))
    model.init_weights(seed=1)
    return model


def write_run(folder, model, steps=10):
    checkpoint.write(folder / "run" / checkpoint.FILE, checkpoint.take(model, [], {"step": steps}))
    Recipe("toy", model.config, TRAINING).save(folder / "run" / "toy.json")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_published_directory_is_whole_and_tells_its_story(publish, tokenizer, tmp_path):
    write_run(tmp_path, random_model(tokenizer), steps=7)
    table = publish(tmp_path / "model", "--note", "The run was interrupted once.", "--note", "It went on.")
    loaded = directory.load(tmp_path / "model")
    check_golden(loaded)
    assert len(loaded.golden) >= 3
    assert all(golden["text"] for golden in loaded.golden)
    card = (tmp_path / "model" / "card.md").read_text()
    for part in (
        table.splitlines()[2],  # the first figure with its interval
        "| MIT | 2 | 0 |",
        "| BSD | 0 | 1 |",
        "\nThe run was interrupted once.\n\nIt went on.\n",
        "0.00 million tokens seen (stopped at step 7 of 10)",
        "left out: mine.jsonl.",
        "Held out: 1 other",
    ):
        assert part in card
    assert "$" not in card
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["training"]["notes"] == ["The run was interrupted once.", "It went on."]
    assert config["training"]["tokens_seen"] == 7 * 256
    assert config["training"]["evaluation"]["bits_per_byte"] > 0
    assert json.loads((tmp_path / "model" / "sources.json").read_text()) == SOURCES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "model", "run"]

    before = contents(tmp_path / "model")
    damaged_by_int8 = random_model(tokenizer)
    with torch.no_grad():  # a unit that is never on, with a weight that takes the whole range of its row
        damaged_by_int8.blocks[0].mlp.up.weight *= 5
        damaged_by_int8.blocks[0].mlp.up.weight[0] = 0
        damaged_by_int8.blocks[0].mlp.down.weight.normal_(generator=torch.Generator().manual_seed(1))
        damaged_by_int8.blocks[0].mlp.down.weight[:, 0] = 1e4
    write_run(tmp_path, damaged_by_int8)
    with pytest.raises(SystemExit, match=r"int8 is too far from the trained model: .*% of the likeliest tokens stay"):
        publish(tmp_path / "model")
    assert contents(tmp_path / "model") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "model", "run"]


def test_a_model_that_says_nothing_fails_the_golden_test(publish, tokenizer, tmp_path):
    silent = random_model(tokenizer)
    with torch.no_grad():
        silent.embedding.weight[:] = torch.linspace(0.5, 1.5, 32)
        silent.embedding.weight[tokenizer.sentinel(END_OF_TEXT)] *= 2
    write_run(tmp_path, silent)
    with pytest.raises(SystemExit, match="golden test: to 0 of 8 prompts the model gives a text that is not empty"):
        publish(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_golden_texts_of_another_model_are_noticed(tiny_model_dir, tokenizer, tmp_path):
    loaded = directory.load(tiny_model_dir)
    golden = [{"path": "a.py", "prefix": "import ", "suffix": "\n", "text": "something else"}]
    directory.write(tmp_path / "other", loaded.build_float(), tokenizer, golden, "# card\n", {})
    with pytest.raises(GoldenTestFailed, match=r"gives .* after 'import ', not 'something else'"):
        check_golden(directory.load(tmp_path / "other"))


def test_the_bundled_model_passes_the_golden_test():
    nano = directory.load(BUNDLED_NANO)
    check_golden(nano)
    check_golden(dataclasses.replace(nano, golden=golden_texts(nano)))


def test_an_output_that_is_no_model_directory_is_left_alone(publish, tokenizer, tiny_model_dir, tmp_path):
    write_run(tmp_path, random_model(tokenizer))
    file, folder, model = tmp_path / "file", tmp_path / "folder", tmp_path / "other"
    file.write_text("mine")
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    loaded = directory.load(tiny_model_dir)
    directory.write(model, loaded.build_float(), tokenizer, [], "", {})
    (model / "mine.txt").write_text("mine")
    for out, message in ((file, "file is a file"), (folder, "folder holds something"), (model, "mine.txt is no part")):
        with pytest.raises(SystemExit, match=f"{message}.*give another --out"):
            publish(out)
    assert file.read_text() == (folder / "mine.txt").read_text() == (model / "mine.txt").read_text() == "mine"


def test_a_run_that_cannot_be_published_says_why(publish, tokenizer, tmp_path):
    out = tmp_path / "model"
    with pytest.raises(SystemExit, match="no recipe"):
        publish(out)
    write_run(tmp_path, random_model(tokenizer))
    saved = tmp_path / "run" / checkpoint.FILE
    whole = saved.read_bytes()
    saved.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SystemExit, match=r"checkpoint\.safetensors cannot be"):
        publish(out)
    saved.unlink()
    with pytest.raises(SystemExit, match=r"checkpoint\.safetensors is missing: run `midfill-train train toy`"):
        publish(out)
    saved.write_bytes(whole)
    wider = dataclasses.replace(random_model(tokenizer).config, d_ff=128)
    Recipe("toy", wider, TRAINING).save(tmp_path / "run" / "toy.json")
    with pytest.raises(SystemExit, match="give the recipe that it was trained with"):
        publish(out)
    (tmp_path / "corpus" / "manifest.json").unlink()
    with pytest.raises(SystemExit, match=r"manifest\.json cannot be read .* give the folder that `midfill"):
        publish(out)
    assert not out.exists()


def test_a_full_disk_leaves_nothing_behind(publish, tokenizer, tmp_path):
    write_run(tmp_path, random_model(tokenizer))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(SystemExit, match=r"model could not be written \(.*\): free some space"):
            publish(tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "run"]


@pytest.mark.parametrize(
    ("drift", "problem"),
    [
        (Drift(0.002, 0.992, (0.12, 0.09), 0.2), None),
        (Drift(0.004, 0.992, (0.12, 0.12), 1.0), "bits per byte grow by 0.4% (at most 0.3%)"),
        (Drift(math.nan, 0.992, (0.12, 0.12), 1.0), "bits per byte grow by nan% (at most 0.3%)"),
        (Drift(0.0, 0.98, (0.12, 0.12), 1.0), "98.0% of the likeliest tokens stay the same (at least 99%)"),
        (Drift(0.0, 0.992, (0.12, 0.06), 0.01), "exactly matched lines fall from 12.0% to 6.0% (p 0.010)"),
        (Drift(0.0, 0.992, (0.06, 0.12), 0.01), None),
    ],
)
def test_the_drift_gate_tells_what_is_too_far(drift, problem):
    assert drift.too_far() == problem


@pytest.mark.parametrize(
    ("spelling", "family"),
    [
        ("MIT License", "MIT"),
        ("The MIT License (MIT)", "MIT"),
        ("BSD License AND BSD License", "BSD"),
        ("0BSD", "0BSD"),
        ("Apache Software License (Apache 2.0)", "Apache-2.0"),
        ("MIT License AND Apache Software License", "Apache-2.0 and MIT"),
        ("BSD 3-Clause OR Apache-2.0", "Apache-2.0 or BSD"),
        ("Python Software Foundation License", "PSF"),
        ("ISC License (ISCL)", "ISC"),
        ("ZPL-2.1", "Zope"),
        ("The Unlicense (Unlicense)", "Unlicense"),
        ("proprietary, used by its owner", "proprietary, used by its owner"),
    ],
)
def test_spellings_of_a_licence_become_one(spelling, family):
    assert licence_family(spelling) == family

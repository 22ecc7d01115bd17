"""The model that ships: complete, small, honest about itself, and still writing what it wrote when published."""

import json

import pytest

from inference_service.model import directory
from tests.conftest import BUNDLED_NANO
from training.evaluate.holes import Hole
from training.evaluate.infilling import LineCompleter


@pytest.fixture(scope="module")
def nano():
    return directory.load(BUNDLED_NANO)


def test_golden_prompts_give_the_golden_text(nano):
    completer = LineCompleter(nano.build_float(), nano.tokenizer)
    assert len(nano.golden) >= 3
    for golden in nano.golden:
        hole = Hole(golden["path"], golden["prefix"], "", golden["suffix"])
        assert completer.complete(hole) == golden["text"]


def test_it_fits_the_repository():
    assert sum(path.stat().st_size for path in BUNDLED_NANO.iterdir()) <= 32_000_000


@pytest.mark.parametrize(
    "fact", ["million tokens seen", "bits per byte", "exact match", "| MIT |", "Held out: ", "tokens/s", " MB."]
)
def test_the_card_says_what_it_is(fact):
    assert fact in (BUNDLED_NANO / "card.md").read_text()


def test_every_source_has_a_name_a_version_and_a_licence():
    sources = json.loads((BUNDLED_NANO / "sources.json").read_text())
    assert len([source for source in sources if source["split"] == "train"]) >= 150
    assert all(source["name"] and source["version"] and source["licence"] for source in sources)
    assert not {s["name"] for s in sources if s["split"] == "train"} & {
        s["name"] for s in sources if s["split"] == "heldout"
    }

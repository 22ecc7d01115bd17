"""Decoding for measurements: the same text as the naive way, ended where the service ends it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference_service.engine.stopping import StopDetector
from inference_service.model import directory
from inference_service.model.fim import fim_head
from inference_service.model.healing import Vocabulary, split_for_healing
from training.evaluate.decoding import Decoder
from training.evaluate.stop_rules import block_end, function_end, line_end, never

pytestmark = pytest.mark.usefixtures("one_thread")

PREFIX = "import os\n\n\ndef main():\n    path = os.pa"
SUFFIX = "\n    return path\n"
CODE = st.sampled_from(["\n", "\n\n", "    ", "        ", "\t", "x", " = 1", "def f():", "return x", ")", "]", "# é"])


@pytest.fixture(scope="module")
def tiny(tiny_model_dir):
    return directory.load(tiny_model_dir)


@pytest.fixture(scope="module")
def decoder(tiny):
    return Decoder(tiny.build_float(), tiny.tokenizer)


def by_hand(model, tokenizer, prefix, suffix, steps):
    """The whole text again for every token: no cache, no batch."""
    kept, typed = split_for_healing(tokenizer, tokenizer.encode(prefix))
    tokens, text = fim_head(tokenizer, "app.py", tokenizer.encode(suffix)) + kept, b""
    for _ in range(steps):
        logits = model(torch.tensor([tokens]))[0, -1]
        allowed = Vocabulary(tokenizer).continuing(typed) if typed else range(len(logits))
        tokens.append(max(allowed, key=lambda token: logits[token].item()))
        if tokenizer.is_sentinel(tokens[-1]):
            break
        piece = tokenizer.token_bytes(tokens[-1])
        overlap = min(len(typed), len(piece))
        typed, text = typed[overlap:], text + piece[overlap:]
    return text.decode("utf-8", "replace")


def test_greedy_text_is_that_of_a_full_forward_pass_per_token(tiny, decoder):
    expected = by_hand(tiny.build_float(), tiny.tokenizer, PREFIX, SUFFIX, 12)
    assert decoder.greedy("app.py", PREFIX, SUFFIX, never, 12).text == expected
    assert expected


def test_samples_at_almost_no_temperature_are_the_greedy_text(decoder):
    greedy = decoder.greedy("app.py", PREFIX, SUFFIX, never, 20)
    samples = decoder.samples("app.py", PREFIX, SUFFIX, never, 20, count=5, temperature=1e-6, seed=1)
    assert samples == [greedy] * 5


def test_samples_differ_from_each_other_and_come_back_with_their_seed(decoder):
    def draw(seed):
        return decoder.samples(None, PREFIX, None, line_end, 20, count=6, temperature=1.0, seed=seed)

    assert len({sample.text for sample in draw(1)}) > 3
    assert draw(1) == draw(1) != draw(2)


def test_samples_that_end_early_leave_the_others_undisturbed(decoder):
    def long_enough(text):
        return len(text) if len(text) > 15 else -1

    together = decoder.samples(None, PREFIX, None, long_enough, 30, count=8, temperature=0.9, seed=3)
    assert len({sample.tokens for sample in together}) > 2
    for sample in together:
        assert len(sample.text) > 15 or sample.ended or sample.tokens == 30


def test_a_long_prompt_is_cut_to_the_context(decoder):
    assert decoder.greedy("app.py", "x = [1, 2, 3]\n" * 2000, "y" * 5000, never, 10_000).tokens <= 256


@given(prefix=st.lists(CODE, max_size=8).map("".join), pieces=st.lists(CODE, max_size=20), mode=st.booleans())
def test_a_completion_ends_where_the_service_ends_it(prefix, pieces, mode):
    rule = block_end(prefix) if mode else line_end
    detector = StopDetector(prefix, "block" if mode else "line", ())
    served, text = "", ""
    for piece in pieces:
        text += piece
        sent, ended = detector.push(piece)
        served += sent
        end = rule(text)
        assert ended == (end >= 0)
        if ended:
            assert served == text[:end]
            return
    assert served + detector.finish() == text


def test_a_function_ends_before_the_next_top_level_statement():
    assert function_end("    return 1\n\n\ndef g():\n") == len("    return 1\n\n")
    assert function_end("    x = 1\n    return x\n") == -1

"""Every family computes what `transformers` computes with the same weights."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from inference_service.model import huggingface
from inference_service.model.kv_cache import KVCache
from inference_service.model.quantize import use_int8_linears
from tests.inference_service.model.huggingface.small_models import FAMILIES, random_model, save

pytestmark = pytest.mark.parametrize("family", FAMILIES)


def tokens(*shape):
    return torch.randint(0, 700, shape, generator=torch.Generator().manual_seed(3))


@torch.inference_mode()
def greedy(model, prompt, count):
    """Token by token through the cache."""
    c = model.config
    cache = KVCache(c.n_layer, c.n_kv_head, c.head_dim, c.context_length, torch.device("cpu"), torch.float32)
    written, new = [], prompt
    while len(written) < count:
        written.append(int(model(new, cache)[0, -1].argmax()))
        new = torch.tensor([written[-1:]])
    return written


def test_logits_are_the_same(checkpoint, family):
    path, theirs = checkpoint(family)
    ours = huggingface.load(path).build_float()
    with torch.inference_mode():
        expected, found = theirs(tokens(2, 200)).logits, ours(tokens(2, 200))
    assert expected.abs().max() > 1
    assert (found - expected).abs().max() < 1e-4


def test_greedy_text_is_the_same(checkpoint, family):
    path, theirs = checkpoint(family)
    loaded = huggingface.load(path)
    prompt = tokens(1, 20)
    out = theirs.generate(prompt, do_sample=False, max_new_tokens=24, eos_token_id=None, pad_token_id=0)
    expected = out[0, 20:].tolist()
    assert len(set(expected)) > 3
    assert greedy(loaded.build_float(), prompt, 24) == expected


def test_int8_rows_predict_like_the_floats(checkpoint, family):
    loaded = huggingface.load(checkpoint(family)[0])
    exact, quantized = loaded.build_float(), loaded.build_float()
    use_int8_linears(quantized, loaded.int8)
    with torch.inference_mode():
        a, b = exact(tokens(1, 100)), quantized(tokens(1, 100))
    assert (a - b).norm() < 0.3 * a.norm()  # a bias or a part at the wrong place makes it more than 1


def test_half_precision_weights_are_read_exactly(tmp_path, family):
    path = save(random_model(family).to(torch.bfloat16), family, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
    loaded = huggingface.load(path)
    assert {tensor.dtype for tensor in loaded.floats.values()} == {torch.bfloat16}
    with torch.inference_mode():
        expected, found = theirs(tokens(1, 50)).logits, loaded.build_float()(tokens(1, 50))
    assert (found - expected).abs().max() < 1e-4


def test_shards_are_the_same_model(checkpoint, tmp_path, family):
    path, theirs = checkpoint(family)
    save(theirs, family, tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    whole, shards = huggingface.load(path).floats, huggingface.load(tmp_path).floats
    assert whole.keys() == shards.keys()
    assert all(torch.equal(whole[name], shards[name]) for name in whole)

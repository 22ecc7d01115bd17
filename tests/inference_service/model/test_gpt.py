"""The model: cached and uncached forward passes agree, and nothing looks ahead."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.model import directory
from inference_service.model.gpt import GPT, GPTConfig
from inference_service.model.kv_cache import KVCache
from inference_service.model.quantize import (
    Int8Linear,
    dequantize_rows,
    int8_linear_works,
    quantize_rows,
    use_int8_linears,
)


@pytest.fixture(scope="module")
def loaded(tiny_model_dir):
    return directory.load(tiny_model_dir)


@pytest.fixture(scope="module")
def model(loaded):
    return loaded.build_float()


SMALL = {
    "vocab_size": 64,
    "n_layer": 1,
    "n_head": 4,
    "n_kv_head": 2,
    "d_model": 32,
    "d_ff": 64,
    "context_length": 16,
}


def new_cache(config: GPTConfig) -> KVCache:
    return KVCache(
        config.n_layer,
        config.n_kv_head,
        config.head_dim,
        config.context_length,
        torch.device("cpu"),
        torch.float32,
    )


@settings(max_examples=25, deadline=None)
@given(chunks=st.lists(st.integers(1, 12), min_size=1, max_size=6), keep=st.integers(0, 10))
def test_any_chunking_through_the_cache_gives_the_naive_logits(model, chunks, keep):
    torch.manual_seed(sum(chunks))
    tokens = torch.randint(0, 1000, (1, sum(chunks)))
    with torch.inference_mode():
        naive = model(tokens)
        cache, parts, at = new_cache(model.config), [], 0
        for size in chunks:
            parts.append(model(tokens[:, at : at + size], cache))
            at += size
        torch.testing.assert_close(torch.cat(parts, 1), naive, atol=1e-4, rtol=1e-4)
        # forgetting a tail and computing it again changes nothing
        cache.length = min(keep, at - 1)
        torch.testing.assert_close(
            model(tokens[:, cache.length :], cache), naive[:, min(keep, at - 1) :], atol=1e-4, rtol=1e-4
        )


def test_a_token_does_not_see_later_ones(model):
    tokens = torch.arange(20)[None]
    changed = tokens.clone()
    changed[0, 12:] = 7
    with torch.inference_mode():
        torch.testing.assert_close(model(tokens)[:, :12], model(changed)[:, :12])


def test_positions_matter(model):
    with torch.inference_mode():
        a, b = model(torch.tensor([[5, 6, 7]]))[0, -1], model(torch.tensor([[6, 5, 7]]))[0, -1]
    assert (a - b).abs().max() > 1e-4


def test_more_tokens_than_the_context_is_an_error(model):
    with pytest.raises(ValueError, match="do not fit the context of 512"):
        model(torch.zeros(1, 513, dtype=torch.long))


@pytest.mark.parametrize("wrong", [{"n_head": 3}, {"n_kv_head": 3, "n_head": 4}])
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match="n_head"):
        GPTConfig(**(SMALL | wrong))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"norm": "layr"}, "norm must be one of rms, layer"),
        ({"norm": "layer"}, "needs a norm_eps above 0"),
        ({"activation": "relu"}, "activation must be one of"),
        ({"head_dim": 7}, "even head_dim"),
        ({"n_layer": 0}, "n_layer must be a whole number above 0"),
        ({"d_ff": 1.5}, "d_ff must be a whole number above 0"),
    ],
)
def test_impossible_settings_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        GPTConfig(**SMALL | wrong)


def test_parameters_and_settings_of_existing_models_keep_their_names():
    """Directories, checkpoints and recipes that exist must load."""
    old = SMALL | {"rope_base": 10000.0, "logit_softcap": 15.0}
    assert GPTConfig(**old) == GPTConfig(**SMALL) == GPTConfig(**GPTConfig(**SMALL).to_dict())
    assert list(GPT(GPTConfig(**old)).state_dict()) == [
        "embedding.weight",
        "blocks.0.attention.qkv.parts.0",
        "blocks.0.attention.qkv.parts.1",
        "blocks.0.attention.qkv.parts.2",
        "blocks.0.attention.out.weight",
        "blocks.0.mlp.up.weight",
        "blocks.0.mlp.down.weight",
    ]


configs = st.fixed_dictionaries(
    {
        "positions": st.sampled_from(["rotary", "learned"]),
        "norm": st.sampled_from(["rms", "layer"]),
        "activation": st.sampled_from(["relu2", "gelu", "gelu_tanh", "swiglu"]),
        "n_kv_head": st.sampled_from([1, 2, 4]),
        "head_dim": st.sampled_from([0, 6]),
        "logit_softcap": st.sampled_from([0.0, 5.0]),
        "rope_original_context": st.sampled_from([0, 16]),
        "rope_factor": st.sampled_from([1.0, 4.0]),
    }
    | {
        name: st.booleans()
        for name in ["norm_affine", "embedding_norm", "qk_norm", "qkv_bias", "out_bias", "mlp_bias", "tied_head"]
    }
)


def random_gpt(settings):
    model = GPT(GPTConfig(**SMALL | {"norm_eps": 1e-5} | settings))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3, generator=generator)
    return model.eval()


@settings(max_examples=40)
@given(variant=configs, cut=st.integers(1, 11))
def test_every_variant_gives_the_naive_logits_through_the_cache(variant, cut):
    model = random_gpt(variant)
    tokens = torch.arange(12)[None] * 5 % 64
    naive = model(tokens)  # with gradients, where stacked matrices are multiplied as one
    with torch.inference_mode():
        cache = new_cache(model.config)
        parts = [model(tokens[:, :cut], cache)]
        parts += [model(tokens[:, at : at + 1], cache) for at in range(cut, 12)]
    torch.testing.assert_close(torch.cat(parts, 1), naive.detach(), atol=1e-4, rtol=1e-4)


@settings(max_examples=20)
@given(variant=configs)
def test_every_parameter_of_every_variant_learns(variant):
    model = random_gpt(variant)
    model(torch.arange(12)[None]).logsumexp(-1).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@settings(max_examples=20)
@given(variant=configs)
def test_every_variant_starts_as_the_identity(variant):
    model = GPT(GPTConfig(**SMALL | {"norm_eps": 1e-5} | variant))
    model.init_weights()
    tokens = torch.arange(12)[None]
    embedded = model.embed(tokens, torch.zeros_like(tokens), slice(0, tokens.shape[1]))
    torch.testing.assert_close(model.hidden(tokens), model.final_norm(embedded))


@settings(max_examples=20)
@given(variant=configs)
def test_every_variant_has_an_int8_form(variant):
    model, quantized = random_gpt(variant), random_gpt(variant)
    use_int8_linears(quantized, {})
    tokens = torch.arange(12)[None]
    with torch.inference_mode():
        a, b = model(tokens), quantized(tokens)
    assert (a - b).norm() < 0.3 * a.norm()


def test_quantized_rows_are_within_half_a_step():
    weight = torch.randn(16, 64) * torch.logspace(-3, 3, 16)[:, None]
    int8, scale = quantize_rows(weight)
    assert int8.dtype == torch.int8
    assert ((dequantize_rows(int8, scale) - weight).abs() <= scale[:, None] * 0.501).all()


def test_int8_linear_is_close_to_float():
    torch.manual_seed(0)
    weight, x = torch.randn(64, 128), torch.randn(5, 128)
    int8, scale = quantize_rows(weight)
    exact = x @ dequantize_rows(int8, scale).T
    error = (Int8Linear(int8, scale)(x) - exact).norm() / exact.norm()
    assert error < 0.03  # 7-bit inputs where the CPU has no VNNI


def test_the_int8_kernel_is_found_to_work_here_and_a_broken_one_is_not(monkeypatch):
    assert int8_linear_works()
    monkeypatch.setattr(Int8Linear, "forward", lambda self, x: torch.zeros(3, 64))
    assert not int8_linear_works()


def test_int8_model_predicts_like_the_float_model(loaded, model):
    quantized = loaded.build_float()
    use_int8_linears(quantized, loaded.int8)
    tokens = torch.tensor([loaded.tokenizer.encode("def main():\n    for line in lines:\n        print(line)\n")])
    with torch.inference_mode():
        a, b = model(tokens).log_softmax(-1), quantized(tokens).log_softmax(-1)
    assert (a - b).abs().mean() < 0.1


def test_training_weights_start_as_the_identity():
    config = GPTConfig(64, n_layer=2, n_head=2, n_kv_head=1, d_model=32, d_ff=64, context_length=16)
    model = GPT(config)
    model.init_weights()
    tokens = torch.arange(8)[None]
    bare = torch.nn.functional.rms_norm(model.embedding(tokens), (32,))
    torch.testing.assert_close(model.hidden(tokens), torch.nn.functional.rms_norm(bare, (32,)))


def test_the_soft_cap_of_training_is_that_of_serving_and_so_is_its_slope():
    capped = GPT(GPTConfig(**SMALL | {"logit_softcap": 5.0})).softcap
    logits = torch.cat([torch.linspace(-60, 60, 1001), torch.tensor([0.0, 3e3, -3e3, torch.inf, -torch.inf])])
    trained = logits.clone().requires_grad_()
    capped(trained).sum().backward()
    torch.testing.assert_close(capped(trained).detach(), capped(logits), atol=5e-6, rtol=0)
    torch.testing.assert_close(trained.grad, 1 - torch.tanh(logits / 5) ** 2, atol=1e-6, rtol=0)
    assert capped(torch.tensor([torch.nan]).requires_grad_()).isnan().all()

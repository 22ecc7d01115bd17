"""GPTQ: what a layer puts out changes less than with plain rounding, for the same number of bits."""

import pytest
import torch

from inference_service.model import directory
from inference_service.model.gpt import GPT, GPTConfig
from training.compress.gptq import compensate, gptq, round_to_nearest
from training.compress.grids import Groups, Rows

grids = pytest.mark.parametrize("grid", [Rows(), Groups(32)], ids=["int8", "int4"])


def correlated_inputs(count, width, generator):
    mixing = torch.randn(width, width, generator=generator) * torch.logspace(0, -2, width)
    return torch.randn(count, width, generator=generator) @ mixing


@grids
def test_a_layers_output_error_is_a_quarter_below_plain_roundings(grid):
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(96, 128, generator=generator), correlated_inputs(2000, 128, generator)
    exact = x @ weight.T
    errors = [
        (x @ grid.widen(*rounded).T - exact).norm()
        for rounded in (compensate(weight, x.T @ x, grid), grid.nearest(weight))
    ]
    assert errors[0] < 0.75 * errors[1]


@grids
def test_inputs_that_are_unrelated_leave_nothing_to_compensate(grid):
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    codes, scale = compensate(weight, torch.eye(64), grid)
    plain, plain_scale = grid.nearest(weight)
    assert torch.equal(codes, plain)
    assert torch.equal(scale, plain_scale)


@grids
def test_an_input_that_is_always_zero_is_no_obstacle(grid):
    generator = torch.Generator().manual_seed(0)
    x = correlated_inputs(500, 64, generator)
    x[:, 5] = 0
    weight = torch.randn(8, 64, generator=generator)
    codes, scale = compensate(weight, x.T @ x, grid)
    assert grid.widen(codes, scale).isfinite().all()


@pytest.fixture
def rows():
    return torch.randint(0, 1000, (16, 128), generator=torch.Generator().manual_seed(5))


@grids
@pytest.mark.parametrize("shape", [{}, {"tied_head": False, "qkv_bias": True, "bigram_rows": 200}])
def test_a_models_logits_drift_less_than_with_plain_rounding(shape, rows, grid):
    model = GPT(GPTConfig(1000, n_layer=2, n_head=2, n_kv_head=1, d_model=64, d_ff=128, context_length=128, **shape))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2, generator=generator)
    model.eval().requires_grad_(False)
    nearest = round_to_nearest(model, grid)
    assert nearest.keys() == {name for name, tensor in model.state_dict().items() if directory.is_matrix(name, tensor)}
    fresh = torch.randint(0, 1000, (8, 128), generator=generator)
    exact = model(fresh)

    def error(quantized):
        rounded = GPT(model.config)
        rounded.load_state_dict(exact_weights | {name: grid.widen(*pair) for name, pair in quantized.items()})
        return (rounded(fresh) - exact).norm()

    exact_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    compensated = gptq(model, rows, grid)
    assert compensated.keys() == nearest.keys()
    with torch.inference_mode():
        assert error(compensated) < error(nearest)

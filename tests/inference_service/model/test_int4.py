"""int4 groups: as close as four bits can be, packed without loss, and refused where they do not fit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference_service.model.int4 import dequantize_groups, pack, quantize_groups, unpack


@given(rows=st.integers(1, 5), groups=st.integers(1, 4), group=st.sampled_from([2, 32, 64]), seed=st.integers(0, 1000))
def test_packing_keeps_every_code(rows, groups, group, seed):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(-8, 8, (rows, groups * group), generator=generator, dtype=torch.int8)
    packed = pack(codes)
    assert packed.dtype == torch.uint8
    assert packed.numel() * 2 == codes.numel()
    assert torch.equal(unpack(packed), codes)


@given(exponent=st.integers(-3, 3), seed=st.integers(0, 1000))
def test_weights_come_back_within_an_eighth_of_their_groups_largest(exponent, seed):
    weight = torch.randn(8, 128, generator=torch.Generator().manual_seed(seed)) * 10.0**exponent
    codes, scale = quantize_groups(weight, 32)
    error = (dequantize_groups(codes, scale) - weight).unflatten(1, (-1, 32))
    largest = weight.unflatten(1, (-1, 32)).abs().amax(dim=2, keepdim=True)
    assert (error.square().mean() / weight.square().mean()).sqrt() < 0.12
    assert (error.abs() <= 0.5 * largest).all()


def test_zeros_stay_zeros():
    weight = torch.randn(4, 64)
    weight[:, ::2] = 0
    weight[2] = 0
    codes, scale = quantize_groups(weight, 32)
    assert (dequantize_groups(codes, scale)[weight == 0] == 0).all()


def test_a_smaller_group_is_closer():
    weight = torch.randn(64, 256)
    errors = [(dequantize_groups(*quantize_groups(weight, group)) - weight).norm() for group in (32, 64, 256)]
    assert errors == sorted(errors)


@pytest.mark.parametrize(("width", "group"), [(48, 32), (33, 33)])
def test_rows_that_are_not_whole_groups_are_refused(width, group):
    with pytest.raises(ValueError, match=f"rows of {width} weights are not whole groups of {group}"):
        quantize_groups(torch.zeros(2, width), group)

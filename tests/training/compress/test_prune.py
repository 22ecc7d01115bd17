"""Pruning: the share that was asked for, the smallest weights, and zeros that stay."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference_service.model import directory
from training.compress.prune import BadSparsity, magnitude_mask, masks, prune, two_of_four_mask


@given(sparsity=st.floats(0.01, 0.99), seed=st.integers(0, 100))
def test_the_smallest_weights_go(sparsity, seed):
    weight = torch.randn(16, 24, generator=torch.Generator().manual_seed(seed))
    mask = magnitude_mask(weight, sparsity)
    assert int((~mask).sum()) == round(sparsity * weight.numel())
    if 0 < mask.sum() < mask.numel():
        assert weight[~mask].abs().max() <= weight[mask].abs().min()


@given(seed=st.integers(0, 100))
def test_of_each_four_neighbours_the_two_largest_stay(seed):
    weight = torch.randn(8, 20, generator=torch.Generator().manual_seed(seed))
    mask = two_of_four_mask(weight).view(8, 5, 4)
    fours = weight.view(8, 5, 4).abs()
    assert (mask.sum(dim=2) == 2).all()
    assert (fours.masked_fill(mask, 0).amax(dim=2) <= fours.masked_fill(~mask, torch.inf).amin(dim=2)).all()


@pytest.mark.parametrize("sparsity", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_a_share_that_cannot_be_is_refused(source, sparsity):
    with pytest.raises(BadSparsity, match="is not between 0 and 1"):
        masks(source.model, sparsity, two_of_four=False)


def test_another_share_than_half_is_no_2_to_4(source):
    with pytest.raises(BadSparsity, match="2:4 zeroes half of the weights, not 70%"):
        masks(source.model, 0.7, two_of_four=True)


def test_rows_that_do_not_divide_by_four_are_refused():
    with pytest.raises(BadSparsity, match="rows of 6 weights"):
        two_of_four_mask(torch.zeros(2, 6))


def zeros(model):
    return {name: parameter == 0 for name, parameter in model.blocks.named_parameters()}


@pytest.mark.parametrize("two_of_four", [False, True])
def test_recovery_trains_what_is_left_and_keeps_the_holes_through_int8(source, byte_data, tmp_path, two_of_four):
    before = {name: tensor.clone() for name, tensor in source.model.state_dict().items()}
    bare = prune(source, byte_data, sparsity=0.5, two_of_four=two_of_four).model
    recovered = prune(source, byte_data, sparsity=0.5, two_of_four=two_of_four, recover_steps=2).model
    holes = zeros(bare)
    assert all(mask.float().mean() == pytest.approx(0.5, abs=0.01) for mask in holes.values())
    for name, parameter in recovered.blocks.named_parameters():
        assert (parameter[holes[name]] == 0).all()
        assert (parameter != dict(bare.blocks.named_parameters())[name]).float().mean() > 0.3
    assert all(torch.equal(tensor, before[name]) for name, tensor in source.model.state_dict().items())

    directory.write(tmp_path / "m", recovered, source.tokenizer, [], "", {})
    for name, (rows, _) in directory.load(tmp_path / "m").int8.items():
        if name.startswith("blocks."):
            assert (rows[holes[name.removeprefix("blocks.")]] == 0).all()


def test_the_embedding_keeps_its_weights(source, byte_data):
    pruned = prune(source, byte_data, sparsity=0.9, two_of_four=False)
    assert torch.equal(pruned.model.embedding.weight, source.model.embedding.weight)
    assert pruned.settings["prune"]["sparsity"] == 0.9

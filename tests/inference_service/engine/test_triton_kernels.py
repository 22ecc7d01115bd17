"""The Triton kernels compute what their plain twins compute; without a GPU, through Triton's interpreter."""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_service.engine.kernels import plain
from inference_service.engine.kernels.parts import Norm, Projection, Rows
from inference_service.engine.kv_pool import KVPool
from inference_service.model.gpt import GPTConfig
from inference_service.model.quantize import quantize_rows

if os.environ.get("CI") != "true":
    pytest.importorskip("triton", reason="Triton is missing (Linux on x86-64 only): pip install triton")

from inference_service.engine.kernels import triton_kernels
from inference_service.engine.kernels.triton_attention import parts
from inference_service.engine.kernels.triton_linear import tile

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# tensor cores multiply in bfloat16; the interpreter in float32
CLOSE = {"atol": 3e-2, "rtol": 3e-2} if DEVICE.type == "cuda" else {"atol": 1e-4, "rtol": 1e-4}


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def projection(columns, depth, bias):
    weight, scale = quantize_rows(random(columns, depth, seed=1) * depth**-0.5)
    return Projection(weight, scale, random(columns, seed=2) if bias else None)


NORMS = st.sampled_from(
    [
        None,
        ("rms", 0.0, False, False),
        ("rms", 1e-5, True, False),
        ("layer", 1e-5, True, True),
        ("layer", 1e-5, False, False),
    ]
)


@settings(max_examples=30)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 70),
    depth=st.integers(1, 300),
    norm=NORMS,
    activation=st.sampled_from(["", "relu2", "gelu", "gelu_tanh", "swiglu"]),
    bias=st.booleans(),
    add=st.booleans(),
)
def test_linear(rows, columns, depth, norm, activation, bias, add):
    x = random(rows, depth, seed=3) + 0.5
    matrix = projection(2 * columns if activation == "swiglu" else columns, depth, bias)
    if norm:
        kind, eps, gain, shift = norm
        norm = Norm(kind, eps, random(depth, seed=4) if gain else None, random(depth, seed=5) if shift else None)
    before = random(rows, columns, seed=6) if add else None
    expected = plain.linear(x, matrix, norm, activation, None if before is None else before.clone())
    computed = triton_kernels.linear(x, matrix, norm, activation, before)
    assert before is None or computed is before
    torch.testing.assert_close(computed, expected, **CLOSE)


def test_a_row_of_zeros_stays_zero():
    x = torch.zeros(2, 32, device=DEVICE)
    assert not triton_kernels.linear(x, projection(8, 32, False), Norm("rms", 0.0)).any()


def batch(lengths, config, dtype, block_size=16):
    """A pool with random contents and one row for the last position of each length, in blocks of no order."""
    width = -(-config.context_length // block_size)
    pool = KVPool(config, len(lengths) * width, block_size, DEVICE, dtype)
    order = torch.randperm(len(lengths) * width, generator=torch.Generator().manual_seed(7)).view(len(lengths), width)
    slots = torch.arange(pool.num_blocks * block_size, device=DEVICE)
    for layer in range(config.n_layer):
        k, v = (random(len(slots), config.n_kv_head, config.head_dim, seed=seed + layer) for seed in (10, 20))
        pool.write(layer, slots, k, v)
    last = torch.tensor(lengths) - 1
    own = order.gather(1, last[:, None] // block_size)[:, 0] * block_size + last % block_size
    columns = (torch.zeros_like(last), torch.zeros_like(last), last, own, order)
    return pool, Rows(*(column.int().to(DEVICE) for column in columns))


@st.composite
def configs(draw):
    kv_heads, head_dim = draw(st.integers(1, 3)), 2 * draw(st.integers(4, 20))
    rotary, qk_norm = draw(st.booleans()), draw(st.booleans())
    return GPTConfig(
        10, n_layer=2, n_head=kv_heads * draw(st.sampled_from([1, 2, 4])), n_kv_head=kv_heads, d_model=8, d_ff=8,
        context_length=200, head_dim=head_dim, positions="rotary" if rotary else "learned", qk_norm=qk_norm,
        norm_eps=draw(st.sampled_from([0.0, 1e-5])),
    )  # fmt: skip


@settings(max_examples=25)
@given(
    config=configs(),
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=3),
    dtype=st.sampled_from([torch.float32, torch.int8]),
    split=st.sampled_from([1, 2, 8]),
)
def test_attention(config, lengths, dtype, split):
    pool, rows = batch(lengths, config, dtype)
    q = random(len(lengths), config.n_head, config.head_dim, seed=8)
    expected = plain.attend(q, rows, pool, 1)
    torch.testing.assert_close(triton_kernels.attend(q, rows, pool, 1, split), expected, **CLOSE)


@settings(max_examples=30)
@given(
    config=configs(),
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.int8]),
)
def test_heads(config, lengths, dtype):
    rotary = None
    if config.positions == "rotary":
        rotary = random(200, config.head_dim, seed=9), random(200, config.head_dim, seed=10)
    qkv = random(len(lengths), (config.n_head + 2 * config.n_kv_head) * config.head_dim, seed=11)
    pool, rows = batch(lengths, config, dtype)
    twin_pool, _ = batch(lengths, config, dtype)
    expected = plain.heads(qkv, rows, twin_pool, 1, config, rotary)
    torch.testing.assert_close(triton_kernels.heads(qkv, rows, pool, 1, config, rotary), expected, **CLOSE)
    # where a value lies in the middle between two integers, the two may round it differently
    step = 1 if dtype == torch.int8 else 0
    for ours, theirs in ((pool.keys, twin_pool.keys), (pool.values, twin_pool.values)):
        torch.testing.assert_close(ours.float(), theirs.float(), atol=step + 1e-4, rtol=1e-4)
    torch.testing.assert_close(pool.key_scales, twin_pool.key_scales, atol=0, rtol=2e-3)
    torch.testing.assert_close(pool.value_scales, twin_pool.value_scales, atol=0, rtol=2e-3)


@given(st.integers(1, 512), st.integers(1, 60_000), st.integers(1, 8192), st.integers(1, 200))
def test_every_processor_gets_a_program_where_there_is_work_for_all(rows, columns, depth, processors):
    m, n, k = tile(rows, columns, depth, processors)
    programs = -(-columns // n) * -(-rows // m)
    assert programs >= processors or n == (4 if rows == 1 else 16)
    assert rows == 1 or min(m, n, k) >= 16  # what a tensor core multiplies


@given(st.integers(1, 512), st.integers(1, 32), st.integers(1, 8192), st.integers(1, 200))
def test_keys_are_split_no_finer_than_they_are(rows, kv_heads, longest, processors):
    count = parts(rows, kv_heads, longest, processors)
    assert count & (count - 1) == 0 and 1 <= count <= max(1, -(-longest // 64))

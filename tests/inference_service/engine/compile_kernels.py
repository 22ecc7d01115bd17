"""Compiles every Triton kernel to machine code of a GPU that need not be there, and prints how many.

Run by test_triton_compiles.py in a process of its own: whether Triton interprets is decided when it is imported.
"""

from __future__ import annotations

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from inference_service.engine.kernels import triton_attention, triton_heads, triton_linear

INT8, HALF, FLOAT, INT32 = "*i8", "*fp16", "*fp32", "*i32"


def build(kernel, types: dict[str, str], constants: dict[str, object], capability: int) -> None:
    names = kernel.arg_names
    assert set(names) == types.keys() | constants.keys(), set(names) ^ (types.keys() | constants.keys())
    signature = {name: types.get(name, "constexpr") for name in names}
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in constants.items()})
    triton.compile(source, target=GPUTarget("cuda", capability, 32))


def linear(capability: int, rows: int, norm: int, activation: int) -> None:
    m, n, k = triton_linear.tile(rows, 768, 768, 132)
    types = dict.fromkeys(("x", "scale", "bias", "gain", "shift", "out"), FLOAT)
    types |= {"weight": INT8} | dict.fromkeys("MNK", "i32")
    constants: dict[str, object] = {
        "EPS": 1e-5, "NORM": norm, "GAIN": norm == 2, "SHIFT": norm == 2, "BIAS": norm == 2, "ACTIVATION": activation,
        "ADD": not norm, "TYPE": triton.language.bfloat16, "BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k,
    }  # fmt: skip
    if norm != 2:
        for name in ("bias", "gain", "shift"):
            del types[name]
            constants[name] = None
    build(triton_linear._linear, types, constants, capability)


def heads(capability: int, quantized: bool) -> None:
    cache, constants = INT8 if quantized else "*bf16", {"HEADS": 12, "KV_HEADS": 3, "D": 64, "BLOCK_D": 64}
    types = {"qkv": FLOAT, "positions": INT32, "slots": INT32, "cos": FLOAT, "sin": FLOAT, "q": FLOAT}
    types |= {"keys": cache, "values": cache, "key_scales": HALF, "value_scales": HALF, "pool_slots": "i32"}
    build(
        triton_heads._heads,
        types,
        constants | {"QK_NORM": True, "EPS": 0.0, "ROTARY": True, "QUANTIZED": quantized},
        capability,
    )


def attention(capability: int, group: int, parts: int, quantized: bool) -> None:
    cache = INT8 if quantized else "*bf16"
    types = {"q": FLOAT, "keys": cache, "values": cache, "key_scales": HALF, "value_scales": HALF, "tables": INT32}
    types |= {"positions": INT32, "highest_out": FLOAT, "total_out": FLOAT, "out": FLOAT, "table_width": "i32"}
    types |= {"pool_slots": "i32", "softmax_scale": "fp32"}
    constants = {
        "KV_HEADS": 3, "GROUP": group, "D": 64, "PAGE": 16, "PARTS": parts, "QUANTIZED": quantized,
        "TYPE": triton.language.bfloat16, "BLOCK_G": 1 if group == 1 else 16, "BLOCK_D": 64,
        "BLOCK_S": triton_attention.KEYS,
    }  # fmt: skip
    build(triton_attention._attend, types, constants, capability)


def main() -> None:
    capability = int(sys.argv[1])
    count = 0
    for rows, norm, activation in ((1, 1, 1), (1, 2, 3), (1, 0, 0), (8, 2, 2), (128, 1, 4), (128, 0, 0)):
        linear(capability, rows, norm, activation)
        count += 1
    for quantized in (False, True):
        heads(capability, quantized)
        for group, parts in ((1, 1), (1, 8), (4, 16)):
            attention(capability, group, parts, quantized)
            count += 1
        count += 1
    sums = dict.fromkeys(("highest", "totals", "sums", "out"), FLOAT)
    build(triton_attention._combine, sums, {"D": 64, "PARTS": 8, "BLOCK_D": 64}, capability)
    print(count + 1)


main()

"""What numba lacks for the CPU step: register tiles of matrix products, conversion to bfloat16, and atomics.

Each is a few lines of LLVM's language. `tile` is the inner loop of every product: 16 outputs of up to TILE_ROWS rows
are summed in registers, so a weight that was loaded and widened is used for all the rows, or, in `pair`, 32 outputs of
fewer rows, so that an input that was loaded is used twice as well: then no sum waits for a load.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
_FEATURES = llvmlite.binding.get_host_cpu_features()
HAS_BFLOAT16 = bool(_FEATURES.get("avx512bf16") and _FEATURES.get("avx512f"))
LONGEST_TILE = 16 if _FEATURES.get("avx512f") else 4  # as many rows as there are registers for
TILE_ROWS = 12 if HAS_BFLOAT16 else LONGEST_TILE
"""How many rows go through a product together: with bfloat16, pairs of panels are multiplied."""
_X86 = llvmlite.binding.get_default_triple().startswith(("x86_64", "amd64"))

_i8, _i32, _i64, _f32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_floats, _ints = ir.VectorType(_f32, LANES), ir.VectorType(_i32, LANES)


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite has no name for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_bfloats = ir.VectorType(_BFloat(), 2 * LANES)


_ELEMENTS = {types.int8: _i8, types.int32: _i32, types.float32: _f32}
_FMA = "llvm.fma.v16f32", ir.FunctionType(_floats, [_floats] * 3)
_DOT = "llvm.x86.avx512bf16.dpbf16ps.512", ir.FunctionType(_floats, [_floats, _bfloats, _bfloats])
_PAUSE = "llvm.x86.sse2.pause", ir.FunctionType(ir.VoidType(), [])


def _long(value: int) -> ir.Constant:
    return ir.Constant(_i64, value)


def _call(builder: Any, function: tuple[str, ir.FunctionType], *arguments: Any) -> Any:
    name, kind = function
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _data(context: Any, builder: Any, kind: Any, value: Any, element: ir.Type) -> Any:
    return builder.bitcast(context.make_array(kind)(context, builder, value).data, element.as_pointer())


def _vector(builder: Any, pointer: Any, kind: ir.VectorType) -> Any:
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=1)


def _splat(builder: Any, scalar: Any, kind: ir.VectorType) -> Any:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(_i32, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(_ints, [0] * LANES))


def _widened(builder: Any, pointer: Any, weight: Any) -> Any:
    """16 weights from `pointer` as float32."""
    if weight.dtype == types.float32:
        return _vector(builder, pointer, _floats)
    return builder.sitofp(builder.sext(_vector(builder, pointer, ir.VectorType(_i8, LANES)), _ints), _floats)


def _paired(builder: Any, low: Any, high: Any) -> Any:
    """Two times 16 float32 that bfloat16 represents exactly, as 16 int32 that hold one of each: low half, high half."""
    # the upper half of a float32 is a bfloat16; here the lower half is 0
    shifted = builder.lshr(builder.bitcast(low, _ints), ir.Constant(_ints, [16] * LANES))
    return builder.or_(shifted, builder.bitcast(high, _ints))


def _tile(rows: int, panels: int = 1) -> Any:
    """An intrinsic (weight, start, step, x, first, k, out): out (rows, panels, 16) float32 = x (rows, k) @ 16 columns
    of each panel.

    weight: flat int8 or float32; from `start` on 16 weights of the first of k (of each panel), `step` elements on those
    of the second.
    x: flat from `first` on, the `rows` values of the first of k, then those of the second. float32, or int32 that
    hold two of k as bfloat16, for which weights must be int8, all of which bfloat16 represents exactly, or int32 as
    `widen` makes them.
    """
    unroll = max(1, 8 // (rows * panels))  # as many sums at a time as hide the latency of an addition

    @intrinsic
    def tile(typingctx, weight, start, step, x, first, k, out):  # type: ignore[no-untyped-def]
        paired = x.dtype == types.int32

        def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            kinds = _ELEMENTS[weight.dtype], _ELEMENTS[x.dtype], _f32
            weights, inputs, results = (
                _data(context, builder, kind, value, element)
                for kind, value, element in zip((weight, x, out), (arguments[i] for i in (0, 3, 6)), kinds, strict=True)
            )
            start_value, step_value, first_value, k_value = (arguments[i] for i in (1, 2, 4, 5))
            weights = builder.gep(weights, [start_value])
            inputs = builder.gep(inputs, [first_value])
            zero = ir.Constant(_floats, [0.0] * LANES)
            sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(unroll)] for _ in range(rows * panels)]

            def load(at: Any, panel: int) -> Any:
                """One of k, or with pairs two, of 16 columns."""
                if weight.dtype == types.int32:
                    pointer = builder.gep(weights, [builder.add(builder.mul(at, step_value), _long(panel * LANES))])
                    return builder.bitcast(_vector(builder, pointer, _ints), _bfloats)
                if paired:
                    pointer = builder.gep(weights, [builder.mul(builder.shl(at, _long(1)), step_value)])
                    low = _widened(builder, pointer, weight)
                    high = _widened(builder, builder.gep(pointer, [step_value]), weight)
                    return builder.bitcast(_paired(builder, low, high), _bfloats)
                return _widened(builder, builder.gep(weights, [builder.mul(at, step_value)]), weight)

            def add(at: Any, which: int) -> None:
                """One more of k, or with pairs two more, into sums number `which`."""
                wides = [load(at, panel) for panel in range(panels)]
                line = builder.gep(inputs, [builder.mul(at, _long(rows))])
                for row in range(rows):
                    one = _splat(builder, builder.load(builder.gep(line, [_long(row)])), _ints if paired else _floats)
                    for panel, wide in enumerate(wides):
                        slot = sums[row * panels + panel][which]
                        if paired:
                            total = _call(builder, _DOT, builder.load(slot), wide, builder.bitcast(one, _bfloats))
                        else:
                            total = _call(builder, _FMA, wide, one, builder.load(slot))
                        builder.store(total, slot)

            length = builder.ashr(k_value, _long(1)) if paired else k_value
            whole = builder.sdiv(length, _long(unroll))
            with cgutils.for_range(builder, whole) as loop:
                for i in range(unroll):
                    add(builder.add(builder.mul(loop.index, _long(unroll)), _long(i)), i)
            with cgutils.for_range(builder, length, start=builder.mul(whole, _long(unroll))) as loop:
                add(loop.index, 0)
            for number, slots in enumerate(sums):
                total = builder.load(slots[0])
                for more in slots[1:]:
                    total = builder.fadd(total, builder.load(more))
                pointer = builder.gep(results, [_long(number * LANES)])
                builder.store(total, builder.bitcast(pointer, _floats.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.none(weight, types.int64, types.int64, x, types.int64, types.int64, out), codegen

    return tile


tile1, tile4, tile8, tile12, tile16 = map(_tile, (1, 4, 8, 12, 16))
pair1, pair4, pair8, pair12 = (_tile(rows, 2) for rows in (1, 4, 8, 12))


@intrinsic
def strided(typingctx, x, first, row_step, k_step, lines, start, k, out, adding):  # type: ignore[no-untyped-def]
    """out (LONGEST_TILE, 16) = x (LONGEST_TILE, k) @ lines (k, 16), or added to out; all float32.

    x: flat, its first number at `first`, the next of a row `k_step` elements on, the next row `row_step`; lines: flat
    from `start` on.
    """

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        first_value, row_value, k_value, start_value, length, adding_value = (arguments[i] for i in (1, 2, 3, 5, 6, 8))
        inputs = builder.gep(_data(context, builder, x, arguments[0], _f32), [first_value])
        vectors = builder.gep(_data(context, builder, lines, arguments[4], _f32), [start_value])
        results = _data(context, builder, out, arguments[7], _f32)
        targets = [builder.gep(results, [_long(row * LANES)]) for row in range(LONGEST_TILE)]
        places = [builder.mul(row_value, _long(row)) for row in range(LONGEST_TILE)]
        zero = ir.Constant(_floats, [0.0] * LANES)
        sums = []
        for target in targets:
            before = cgutils.alloca_once_value(builder, zero)
            with builder.if_then(adding_value):
                builder.store(_vector(builder, target, _floats), before)
            sums.append(before)
        with cgutils.for_range(builder, length) as loop:
            vector = _vector(builder, builder.gep(vectors, [builder.mul(loop.index, _long(LANES))]), _floats)
            column = builder.gep(inputs, [builder.mul(loop.index, k_value)])
            for place, total in zip(places, sums, strict=True):
                one = _splat(builder, builder.load(builder.gep(column, [place])), _floats)
                builder.store(_call(builder, _FMA, vector, one, builder.load(total)), total)
        for target, total in zip(targets, sums, strict=True):
            builder.store(builder.load(total), builder.bitcast(target, _floats.as_pointer()), align=4)
        return context.get_dummy_value()

    i64 = types.int64
    return types.none(x, i64, i64, i64, lines, i64, i64, out, types.boolean), codegen


@intrinsic
def widen(typingctx, weight, start, k, out, at, step):  # type: ignore[no-untyped-def]
    """16 columns of int8 weights, from `start` on, as k / 2 times 16 pairs of bfloat16 into out (flat int32) from `at`
    on, every `step` elements. k is even."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        weights = builder.gep(_data(context, builder, weight, arguments[0], _i8), [arguments[1]])
        results = builder.gep(_data(context, builder, out, arguments[3], _i32), [arguments[4]])
        with cgutils.for_range(builder, builder.ashr(arguments[2], _long(1))) as loop:
            pointer = builder.gep(weights, [builder.mul(loop.index, _long(2 * LANES))])
            low = _widened(builder, pointer, weight)
            high = _widened(builder, builder.gep(pointer, [_long(LANES)]), weight)
            target = builder.gep(results, [builder.mul(loop.index, arguments[5])])
            builder.store(_paired(builder, low, high), builder.bitcast(target, _ints.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.none(weight, types.int64, types.int64, out, types.int64, types.int64), codegen


@intrinsic
def settle(typingctx, sums, row, scale, bias, column, out, at, adding):  # type: ignore[no-untyped-def]
    """16 of out (flat), from `at` on = row `row` of sums (rows, 16) * scale + bias from `column` on, or added to out.

    An empty bias is none.
    """

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        sources, scales, biases, results = (
            _data(context, builder, kind, arguments[i], _f32)
            for kind, i in ((sums, 0), (scale, 2), (bias, 3), (out, 5))
        )
        zero = ir.Constant(_floats, [0.0] * LANES)
        factor = _vector(builder, builder.gep(scales, [arguments[4]]), _floats)
        value = _vector(builder, builder.gep(sources, [builder.mul(arguments[1], _long(LANES))]), _floats)
        length = builder.extract_value(context.make_array(bias)(context, builder, arguments[3]).shape, 0)
        biased = builder.icmp_signed(">", length, _long(0))
        offset = cgutils.alloca_once_value(builder, zero)
        with builder.if_then(biased):
            builder.store(_vector(builder, builder.gep(biases, [arguments[4]]), _floats), offset)
        target = builder.gep(results, [arguments[6]])
        with builder.if_then(arguments[7]):
            builder.store(builder.fadd(builder.load(offset), _vector(builder, target, _floats)), offset)
        total = _call(builder, _FMA, value, factor, builder.load(offset))
        builder.store(total, builder.bitcast(target, _floats.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.none(sums, types.int64, scale, bias, types.int64, out, types.int64, types.boolean), codegen


def _atomic(ordering_of: str) -> Any:
    """An intrinsic over (int64 array, index): "add" adds one and returns the value before, "load" reads."""

    @intrinsic
    def atomic(typingctx, array, index):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            pointer = builder.gep(_data(context, builder, array, arguments[0], _i64), [arguments[1]])
            if ordering_of == "add":
                return builder.atomic_rmw("add", pointer, _long(1), "seq_cst")
            return builder.load_atomic(pointer, "seq_cst", 8)

        return types.int64(array, types.int64), codegen

    return atomic


atomic_increment = _atomic("add")
atomic_load = _atomic("load")


@intrinsic
def pause(typingctx):  # type: ignore[no-untyped-def]
    """Tell the processor that this is a loop that waits."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if _X86:
            _call(builder, _PAUSE)
        return context.get_dummy_value()

    return types.none(), codegen


def packed(weight: np.ndarray) -> np.ndarray:
    """(n, k) -> (ceil(n / 16), k, 16) of the same type: what `tile` reads lies side by side; zeros fill the last."""
    n, k = weight.shape
    panels = np.zeros((-(-n // LANES), LANES, k), weight.dtype)
    panels.reshape(-1, k)[:n] = weight
    return np.ascontiguousarray(panels.transpose(0, 2, 1))

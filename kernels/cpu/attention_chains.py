"""The inner loops of CPU attention: lines of a tile times keys or values, each element one FMA chain.

A line is one head of one row. Which lines and columns run side by side in vector registers cannot move a bit:
an element takes its products in rising order, whatever the width of the vectors.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

_F32, _I16, _I32 = ir.FloatType(), ir.IntType(16), ir.IntType(32)

SIDE = 8
"""Keys are transposed in squares of SIDE x SIDE."""


def _constant(lanes: int, bits: int, value: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(bits), lanes), [value] * lanes)


def _load(builder: Any, pointer: Any, lanes: int) -> Any:
    """A vector of float32, or of bfloat16 bits widened."""
    kind = pointer.type.pointee
    value = builder.load(
        builder.bitcast(pointer, ir.VectorType(kind, lanes).as_pointer()), align=2 if kind == _I16 else 4
    )
    if kind != _I16:
        return value
    wide = builder.shl(builder.zext(value, ir.VectorType(_I32, lanes)), _constant(lanes, 32, 16))
    return builder.bitcast(wide, ir.VectorType(_F32, lanes))


def _store(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=4)


def _broadcast(builder: Any, value: Any, lanes: int) -> Any:
    undefined = ir.Constant(ir.VectorType(_F32, lanes), ir.Undefined)
    first = builder.insert_element(undefined, value, _I32(0))
    return builder.shuffle_vector(first, undefined, _constant(lanes, 32, 0))


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """The columns of a square of vectors: at each step two quarters of every 2s x 2s square change places."""
    side = len(rows)
    step = side // 2
    while step:
        upper = [lane if not lane & step else side + lane - step for lane in range(side)]
        lower = [lane + step if not lane & step else side + lane for lane in range(side)]
        masks = [ir.Constant(ir.VectorType(_I32, side), mask) for mask in (upper, lower)]
        for i in (i for i in range(side) if not i & step):
            pair = rows[i], rows[i + step]
            rows[i], rows[i + step] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        step //= 2
    return rows


@intrinsic
def transpose_keys(
    typingctx: Any, cache: Any, first: Any, stride: Any, depth: Any, keys: Any, lane: Any, lanes: Any
) -> Any:
    """keys[d * lanes + lane + j] = cache[first + j * stride + d] for j in 0..SIDE-1 and d in 0..depth-1.

    cache and keys are flat, depth is a multiple of SIDE. Nothing is checked.
    """
    size = types.intp

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b = builder
        source, target = (context.make_array(signature.args[i])(context, b, args[i]).data for i in (0, 4))
        _, first, stride, depth, _, lane, lanes = args
        with cgutils.for_range_slice(b, first.type(0), depth, first.type(SIDE)) as (d, _):
            starts = [b.add(b.add(first, d), b.mul(stride, first.type(j))) for j in range(SIDE)]
            square = _transposed(b, [_load(b, b.gep(source, [start]), SIDE) for start in starts])
            for j, column in enumerate(square):
                _store(b, column, b.gep(target, [b.add(lane, b.mul(lanes, b.add(d, first.type(j))))]))
        return context.get_dummy_value()

    return types.void(cache, size, size, size, keys, size, size), codegen


@intrinsic
def prefetch(typingctx: Any, cache: Any, first: Any, count: Any) -> Any:
    """Ask for `count` elements of the flat cache from `first`: a wish, which changes no value."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b, byte = builder, ir.IntType(8).as_pointer()
        ask = cgutils.get_or_insert_function(
            b.module, ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32]), "llvm.prefetch.p0"
        )
        _, first, count = args
        per_line = 64 // (cache.dtype.bitwidth // 8)
        start = b.gep(context.make_array(cache)(context, b, args[0]).data, [first])
        with cgutils.for_range_slice(b, first.type(0), count, first.type(per_line)) as (i, _):
            b.call(ask, [b.bitcast(b.gep(start, [i]), byte), _I32(0), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(cache, types.intp, types.intp), codegen


class _Lines:
    """Emits the chains of some lines with one strip of columns."""

    def __init__(
        self, builder: Any, a: list[Any], b: Any, b_stride: Any, c: list[Any], starts: list[Any]
    ) -> None:
        self.builder, self.a, self.b, self.b_stride, self.c, self.starts = builder, a, b, b_stride, c, starts

    def strip(self, column: Any, lanes: int, depth: Any) -> None:
        """c[column : column + lanes] of every line."""
        b, vector = self.builder, ir.VectorType(_F32, lanes)
        fma = cgutils.get_or_insert_function(
            b.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f32"
        )
        chains = [cgutils.alloca_once(b, vector) for _ in self.c]
        for chain, line, start in zip(chains, self.c, self.starts, strict=True):
            if start is None:
                b.store(ir.Constant(vector, [0.0] * lanes), chain)
            else:
                b.store(b.fmul(_load(b, b.gep(line, [column]), lanes), _broadcast(b, start, lanes)), chain)
        with cgutils.for_range(b, depth) as loop:
            other = _load(b, b.gep(self.b, [b.add(column, b.mul(self.b_stride, loop.index))]), lanes)
            for chain, line in zip(chains, self.a, strict=True):
                factor = _broadcast(b, b.load(b.gep(line, [loop.index])), lanes)
                b.store(b.call(fma, [factor, other, b.load(chain)]), chain)
        for chain, line in zip(chains, self.c, strict=True):
            _store(b, b.load(chain), b.gep(line, [column]))


@intrinsic(prefer_literal=True)
def accumulate(
    typingctx: Any, c: Any, line: Any, n_lines: Any, columns: Any, start: Any, a: Any, a_first: Any,
    b: Any, b_first: Any, b_stride: Any, depth: Any,
) -> Any:  # fmt: skip
    """c[i, n] = c[i, n] * start[i], then fma(a[i, a_first + k], b[b_first + k * b_stride + n], c[i, n])s.

    k rises from 0 to depth - 1; i runs over the `n_lines` (a literal) lines from `line`, n over the
    `columns`, a multiple of 8. With start None the chains begin at 0.0. c and a [lines, ..] and start [lines]
    are contiguous float32, b is flat. Nothing is checked.
    """
    if not isinstance(n_lines, types.IntegerLiteral):
        raise TypingError("accumulate: n_lines must be a literal")
    size = types.intp

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        ir_b = builder
        arrays = {i: context.make_array(signature.args[i])(context, ir_b, args[i]) for i in (0, 5, 7)}
        _, line, _, columns, _, _, a_first, _, b_first, b_stride, depth = args
        lines = [ir_b.add(line, line.type(i)) for i in range(n_lines.literal_value)]

        def row(index: int, offset: Any) -> list[Any]:
            width = ir_b.extract_value(arrays[index].shape, 1)
            return [ir_b.gep(arrays[index].data, [ir_b.add(offset, ir_b.mul(i, width))]) for i in lines]

        starts: list[Any] = [None] * len(lines)
        if not isinstance(start, types.NoneType):
            data = context.make_array(start)(context, ir_b, args[4]).data
            starts = [ir_b.load(ir_b.gep(data, [i])) for i in lines]
        other = ir_b.gep(arrays[7].data, [b_first])
        emit = _Lines(ir_b, row(5, a_first), other, b_stride, row(0, line.type(0)), starts)
        done = line.type(0)
        for wide in (64, 16, 8) if "+avx512f" in context.codegen().magic_tuple()[2] else (16, 8):
            whole = ir_b.and_(columns, line.type(-wide))
            with cgutils.for_range_slice(ir_b, done, whole, line.type(wide)) as (column, _):
                emit.strip(column, wide, depth)
            done = whole
        return context.get_dummy_value()

    signature = types.void(c, size, n_lines, size, start, a, size, b, size, size, size)
    return signature, codegen

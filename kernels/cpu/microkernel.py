"""The inner loop of every CPU matmul: a tile of rows times panels, each element one FMA chain a leaf of K.

A chain starts at 0.0 and takes fma(x[k], w[k], chain) for k in rising order; leaves are added in a binary
tree. A tile only decides which chains run side by side in vector registers, so neither its shape nor the
width of the vectors can move a bit. Where the CPU has no FMA instruction llvm.fma becomes a call of libm's
fmaf, which rounds the same way.
"""

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from detrec.kernels.cpu.packed import PANEL

UNROLL = 4

LEVELS = 4
"""Of the tree of leaves: sums of 1, 2, 4 and 8."""

_F32, _I32 = ir.FloatType(), ir.IntType(32)


def _vector_width(context: Any) -> int:
    # 8 suits AVX2, and is cut to what there is on anything less
    return 16 if "+avx512f" in context.codegen().magic_tuple()[2] else 8


class _Tile:
    """Emits the code of register tiles: rows by vectors of columns."""

    def __init__(self, builder: Any, width: int, bf16_x: bool, bf16_w: bool) -> None:
        self.builder, self.width, self.bf16_x, self.bf16_w = builder, width, bf16_x, bf16_w
        self.vector = ir.VectorType(_F32, width)
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        self.fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{width}f32")

    def broadcast(self, pointer: Any) -> Any:
        """Every lane holds the element of x at `pointer`, widened."""
        b = self.builder
        value = b.load(pointer)
        if self.bf16_x:
            value = b.bitcast(b.shl(b.zext(value, _I32), _I32(16)), _F32)
        lane = b.insert_element(ir.Constant(self.vector, ir.Undefined), value, _I32(0))
        zeros = ir.Constant(ir.VectorType(_I32, self.width), [0] * self.width)
        return b.shuffle_vector(lane, ir.Constant(self.vector, ir.Undefined), zeros)

    def columns(self, pointer: Any) -> Any:
        """A vector of w from `pointer`, widened."""
        b = self.builder
        if not self.bf16_w:
            return b.load(b.bitcast(pointer, self.vector.as_pointer()), align=4)
        wide = ir.VectorType(_I32, self.width)
        stored = ir.VectorType(ir.IntType(16), self.width)
        value = b.zext(b.load(b.bitcast(pointer, stored.as_pointer()), align=2), wide)
        return b.bitcast(b.shl(value, ir.Constant(wide, [16] * self.width)), self.vector)

    def chains(self, rows: list[Any], columns: list[Any], depth: Any) -> list[list[Any]]:
        """The chain of each row pointer with each column pointer (PANEL apart a k) over `depth` elements."""
        b, size = self.builder, depth.type
        places = [[cgutils.alloca_once(b, self.vector) for _ in columns] for _ in rows]
        for place in (p for row in places for p in row):
            b.store(ir.Constant(self.vector, [0.0] * self.width), place)

        def steps(first: Any, count: int) -> None:
            for step in range(count):
                k = b.add(first, size(step))
                w = [self.columns(b.gep(c, [b.mul(k, size(PANEL))])) for c in columns]
                for row, chain in zip(rows, places, strict=True):
                    x = self.broadcast(b.gep(row, [k]))
                    for vector, place in zip(w, chain, strict=True):
                        b.store(b.call(self.fma, [x, vector, b.load(place)]), place)

        whole = b.and_(depth, size(-UNROLL))
        with cgutils.for_range_slice(b, size(0), whole, size(UNROLL)) as (k, _):
            steps(k, UNROLL)
        with cgutils.for_range_slice(b, whole, depth, size(1)) as (k, _):
            steps(k, 1)
        return [[b.load(place) for place in row] for row in places]

    def tree(self, rows: list[Any], columns: list[Any], depth: Any, leaves: Any) -> list[list[Any]]:
        """The chains of `leaves` leaves, `depth` elements of k each, added in a binary tree.

        A leaf with n low bits set in its number completes n sums, which were kept, each twice the one before.
        """
        b, size = self.builder, depth.type
        count = len(rows) * len(columns)
        kept = cgutils.alloca_once(b, self.vector, size(LEVELS * count))
        sums = [[cgutils.alloca_once(b, self.vector) for _ in columns] for _ in rows]
        flat = [place for row in sums for place in row]

        def each(level: Any) -> Iterator[tuple[Any, Any]]:
            line = b.gep(kept, [b.mul(level, size(count))])
            return ((b.gep(line, [size(i)]), place) for i, place in enumerate(flat))

        with cgutils.for_range(b, leaves) as leaf:
            start = b.mul(leaf.index, depth)
            lines = [b.gep(row, [start]) for row in rows]
            panels = [b.gep(column, [b.mul(start, size(PANEL))]) for column in columns]
            for chain, place in zip(
                (c for row in self.chains(lines, panels, depth) for c in row), flat, strict=True
            ):
                b.store(chain, place)
            completed = b.cttz(b.not_(leaf.index), ir.Constant(ir.IntType(1), 0))
            with cgutils.for_range(b, completed) as level:
                for before, place in each(level.index):
                    b.store(b.fadd(b.load(before), b.load(place)), place)
            for before, place in each(completed):
                b.store(b.load(place), before)
        return [[b.load(place) for place in row] for row in sums]

    def bias(self, pointer: Any, given: Any) -> Any:
        """The bias at `pointer`, or -0.0, the one number that added changes nothing."""
        b = self.builder
        place = cgutils.alloca_once_value(b, ir.Constant(self.vector, [-0.0] * self.width))
        with b.if_then(given):
            b.store(b.load(b.bitcast(pointer, self.vector.as_pointer()), align=4), place)
        return b.load(place)

    def store(self, value: Any, pointer: Any, bf16: bool) -> None:
        """Round `value` to the output's dtype and write it at `pointer`."""
        b = self.builder
        if bf16:
            value = self._to_bf16(value)
        b.store(value, b.bitcast(pointer, value.type.as_pointer()), align=2 if bf16 else 4)

    def _to_bf16(self, value: Any) -> Any:
        # the same steps as portable.narrow
        b, words = self.builder, ir.VectorType(_I32, self.width)

        def every(word: int) -> Any:
            return ir.Constant(words, [word] * self.width)

        bits = b.bitcast(value, words)
        odd = b.and_(b.lshr(bits, every(16)), every(1))
        nearest = b.add(b.add(bits, every(0x7FFF)), odd)
        kept = b.select(b.fcmp_ordered("==", value, value), nearest, b.or_(bits, every(0x400000)))
        return b.trunc(b.lshr(kept, every(16)), ir.VectorType(ir.IntType(16), self.width))


@intrinsic(prefer_literal=True)
def tile(
    typingctx: Any, x: Any, row: Any, n_rows: Any, panels: Any, panel: Any, n_panels: Any,
    start: Any, stop: Any, leaves: Any, bias: Any, out: Any, out_row: Any, out_column: Any,
) -> Any:  # fmt: skip
    """n_rows rows of x from `row` times n_panels panels from `panel`, to out from (out_row, out_column).

    x [R, K] and out [.., ..] with inner stride 1, panels [P, K, PANEL], each float32 or uint16 (bfloat16
    bits); bias float32, indexed by out's column, or empty. k in [start, stop) is cut into `leaves` leaves, a
    power of two up to 8 that divides its length. n_rows and n_panels are literals. Rows past R are
    taken as row R - 1 and written there again, with the same bits. Whole panels are written. Nothing is
    checked.
    """
    if not (isinstance(n_rows, types.IntegerLiteral) and isinstance(n_panels, types.IntegerLiteral)):
        raise TypingError("tile: n_rows and n_panels must be literals")
    if any(array.dtype not in (types.float32, types.uint16) for array in (x, panels, out)):
        raise TypingError(f"tile: expected float32 or uint16 (bfloat16 bits), got {x}, {panels}, {out}")
    rows, count, size = n_rows.literal_value, n_panels.literal_value, types.intp
    signature = types.void(x, size, n_rows, panels, size, n_panels, size, size, size, bias, out, size, size)
    bf16_x, bf16_w, bf16_out = (array.dtype == types.uint16 for array in (x, panels, out))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        b, width = builder, _vector_width(context)
        x_array, w_array, bias_array, out_array = (
            context.make_array(signature.args[i])(context, b, args[i]) for i in (0, 3, 9, 10)
        )
        row, panel, start, stop, leaves, out_row, out_column = (args[i] for i in (1, 4, 6, 7, 8, 11, 12))
        size, depth = row.type, b.udiv(b.sub(stop, start), leaves)

        def at(array: Any, index: Any, offset: Any) -> Any:
            stride = cgutils.unpack_tuple(b, array.strides)[0]
            line = b.gep(b.bitcast(array.data, cgutils.voidptr_t), [b.mul(index, stride)])
            return b.gep(b.bitcast(line, array.data.type), [offset])

        last = b.sub(b.sub(cgutils.unpack_tuple(b, x_array.shape)[0], row), size(1))
        lines = [b.select(b.icmp_signed("<", size(i), last), size(i), last) for i in range(rows)]
        x_rows = [at(x_array, b.add(row, i), start) for i in lines]
        out_rows = [at(out_array, b.add(out_row, i), out_column) for i in lines]
        w_panels = [at(w_array, b.add(panel, size(p)), b.mul(start, size(PANEL))) for p in range(count)]
        biased = b.icmp_signed("!=", bias_array.nitems, size(0))
        emit = _Tile(b, width, bf16_x, bf16_w)
        places = [(p, c) for p in range(count) for c in range(0, PANEL, width)]
        # 16 vector registers where AVX-512 is missing, 32 where it is there
        most_rows, most_columns = (rows, len(places)) if width == 16 else (min(rows, 4), 2)
        for j in range(0, len(places), most_columns):
            part = places[j : j + most_columns]
            columns = [size(p * PANEL + c) for p, c in part]
            pointers = [b.gep(w_panels[p], [size(c)]) for p, c in part]
            for i in range(0, rows, most_rows):
                chains = emit.tree(x_rows[i : i + most_rows], pointers, depth, leaves)
                terms = [emit.bias(b.gep(bias_array.data, [b.add(out_column, c)]), biased) for c in columns]
                for out_line, line_chains in zip(out_rows[i : i + most_rows], chains, strict=True):
                    for chain, term, column in zip(line_chains, terms, columns, strict=True):
                        emit.store(b.fadd(chain, term), b.gep(out_line, [column]), bf16_out)
        return context.get_dummy_value()

    return signature, codegen

"""Scalar float32 arithmetic that gives the same bits on every machine.

Only mul, add, fma, compare, select and integer bit operations: no table, no float64, no branch, so that a
loop over them is vectorised and the same lines can be written for a GPU, bit for bit. No product is ever
fused with a sum unless `fma` says so.

exp: Cody and Waite's range reduction (Software Manual for the Elementary Functions, 1980), then a
polynomial of degree 6; log: reduction to [2/3, 4/3) and a polynomial of degree 10. The coefficients are
minimax fits.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from detrec.kernels.cpu.compiling import compiled

MAX_LANES = 1024
"""A row is reduced by min(MAX_LANES, next power of two >= columns) lanes: part of every result."""

F32, I32 = ir.FloatType(), ir.IntType(32)


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once, float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        fn = builder.module.declare_intrinsic("llvm.fma", [F32], ir.FunctionType(F32, [F32, F32, F32]))
        return builder.call(fn, args)

    return types.float32(types.float32, types.float32, types.float32), codegen


@intrinsic
def select(typingctx: Any, condition: Any, yes: Any, no: Any) -> Any:
    """`yes` where `condition` holds, else `no`: both are evaluated, and of one type, so no loop branches."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(context.cast(builder, args[0], signature.args[0], types.boolean), *args[1:])

    return yes(types.boolean, yes, yes), codegen


@intrinsic
def bits_to_float(typingctx: Any, bits: Any) -> Any:
    """The float32 whose bits are the uint32 `bits`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], F32)

    return types.float32(types.uint32), codegen


@intrinsic
def float_to_bits(typingctx: Any, value: Any) -> Any:
    """The bits of a float32, as uint32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], I32)

    return types.uint32(types.float32), codegen


@intrinsic
def widen(typingctx: Any, value: Any) -> Any:
    """A stored element as float32: a float32 is itself, a uint16 holds the bits of a bfloat16."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if signature.args[0] == types.float32:
            return args[0]
        return builder.bitcast(builder.shl(builder.zext(args[0], I32), I32(16)), F32)

    if value not in (types.float32, types.uint16):
        raise TypingError(f"widen: expected float32 or uint16 (bfloat16 bits), got {value}")
    return types.float32(value), codegen


@intrinsic
def narrow(typingctx: Any, value: Any, like: Any) -> Any:
    """A float32 as an element of the array `like`: itself, or bfloat16 bits to nearest even, NaN kept NaN."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if signature.return_type == types.float32:
            return args[0]
        bits = builder.bitcast(args[0], I32)
        odd = builder.and_(builder.lshr(bits, I32(16)), I32(1))
        nearest = builder.add(builder.add(bits, I32(0x7FFF)), odd)
        number = builder.fcmp_ordered("==", args[0], args[0])
        kept = builder.select(number, nearest, builder.or_(bits, I32(0x400000)))
        return builder.trunc(builder.lshr(kept, I32(16)), ir.IntType(16))

    if like.dtype not in (types.float32, types.uint16):
        raise TypingError(f"narrow: expected an array of float32 or uint16 (bfloat16 bits), got {like}")
    return like.dtype(types.float32, like), codegen


LOG2E = np.float32(1.4426950408889634)
# 1.5 * 2^23: adding it rounds to a whole number, which is then in the low bits
MAGIC = np.float32(12582912.0)
LN2_HI = np.float32(0.693359375)
LN2_LO = np.float32(-2.12194440e-4)
EXP_MIN = np.float32(-87.33654022216797)
EXP_MAX = np.float32(88.72283172607422)
E2, E3, E4, E5, E6 = (
    np.float32(c)
    for c in (
        0.4999999403953552,
        0.1666652113199234,
        0.041668277233839035,
        0.008368686772882938,
        0.0013819822343066335,
    )
)
L2, L3, L4, L5, L6, L7, L8, L9, L10 = (
    np.float32(c)
    for c in (
        -0.5,
        0.3333321511745453,
        -0.24999798834323883,
        0.2001044601202011,
        -0.16680440306663513,
        0.14005306363105774,
        -0.12184860557317734,
        0.13986898958683014,
        -0.1288924664258957,
    )
)
ZERO, ONE, INF = np.float32(0.0), np.float32(1.0), np.float32(np.inf)
SHIFT, TWO_THIRDS = np.uint32(23), np.uint32(0x3F2AAAAB)


@compiled
def exp32(x: np.float32) -> np.float32:
    """e^x within 1 ulp; 0 where that is less than the smallest normal number. NaN stays NaN."""
    magic = fma(x, LOG2E, MAGIC)
    n = magic - MAGIC
    r = fma(n, -LN2_LO, fma(n, -LN2_HI, x))
    p = fma(fma(fma(fma(E6, r, E5), r, E4), r, E3), r, E2)
    y = fma(fma(p, r, ONE), r, ONE)
    scaled = bits_to_float(np.uint32(float_to_bits(y) + np.uint32(float_to_bits(magic) << SHIFT)))
    bounded = select(x > EXP_MAX, INF, select(x < EXP_MIN, ZERO, scaled))
    return select(x != x, x, bounded)


@compiled
def log32(x: np.float32) -> np.float32:
    """The natural logarithm of a positive normal x within 1 ulp; -inf for 0, NaN for NaN. No other x."""
    bits = float_to_bits(x)
    n = np.int32(np.int32(bits - TWO_THIRDS) >> np.int32(23))
    f = bits_to_float(np.uint32(bits - np.uint32(np.uint32(n) << SHIFT))) - ONE
    p = fma(fma(fma(fma(L10, f, L9), f, L8), f, L7), f, L6)
    p = fma(fma(fma(fma(p, f, L5), f, L4), f, L3), f, L2)
    e = np.float32(n)
    y = fma(e, LN2_HI, fma(e, LN2_LO, fma(f * f, p, f)))
    return select(x != x, x, select(x == ZERO, -INF, y))


@compiled
def silu32(x: np.float32) -> np.float32:
    """x * sigmoid(x), as x / (1 + e^-x)."""
    return x / (ONE + exp32(-x))


@compiled
def lanes_of(columns: int) -> int:
    """How many lanes reduce a row of `columns` elements: the next power of two, at most MAX_LANES."""
    lanes = 1
    while lanes < columns and lanes < MAX_LANES:
        lanes *= 2
    return lanes


@compiled
def tree_sum(lanes: np.ndarray, n: int) -> np.float32:
    """The sum of lanes[:n], n a power of two: lanes[i] += lanes[i + half] for half = n/2, ..., 1."""
    half = n >> 1
    while half:
        for i in range(half):
            lanes[i] += lanes[i + half]
        half >>= 1
    return lanes[0]

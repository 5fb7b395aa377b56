"""Scalar float32 arithmetic of `kernels/cpu/portable.py`, in Triton: the same operations, so the same bits.

Division and square root are IEEE's (`tl.div_rn`, `tl.sqrt_rn`), `tl.fma` rounds once, nothing else is fused.
"""

from detrec.kernels.launch import INTERPRETED, tl, triton

MAX_LANES = 1024
"""A row is reduced by min(MAX_LANES, next power of two >= columns) lanes: part of every result."""

_INTERPRETED = tl.constexpr(INTERPRETED)

LOG2E = tl.constexpr(1.4426950408889634)
MAGIC = tl.constexpr(12582912.0)
LN2_HI = tl.constexpr(0.693359375)
LN2_LO = tl.constexpr(-2.12194440e-4)
EXP_MIN = tl.constexpr(-87.33654022216797)
EXP_MAX = tl.constexpr(88.72283172607422)
E2 = tl.constexpr(0.4999999403953552)
E3 = tl.constexpr(0.1666652113199234)
E4 = tl.constexpr(0.041668277233839035)
E5 = tl.constexpr(0.008368686772882938)
E6 = tl.constexpr(0.0013819822343066335)
L2 = tl.constexpr(-0.5)
L3 = tl.constexpr(0.3333321511745453)
L4 = tl.constexpr(-0.24999798834323883)
L5 = tl.constexpr(0.2001044601202011)
L6 = tl.constexpr(-0.16680440306663513)
L7 = tl.constexpr(0.14005306363105774)
L8 = tl.constexpr(-0.12184860557317734)
L9 = tl.constexpr(0.13986898958683014)
L10 = tl.constexpr(-0.1288924664258957)


def lanes_of(columns: int) -> int:
    """How many lanes reduce a row of `columns` elements: the next power of two, at most MAX_LANES."""
    return min(MAX_LANES, triton.next_power_of_2(columns))


GOLDEN = tl.constexpr(0x9E3779B97F4A7C15)
MIX1 = tl.constexpr(0xBF58476D1CE4E5B9)
MIX2 = tl.constexpr(0x94D049BB133111EB)


@triton.jit
def mix64(z):
    """SplitMix64's finaliser, of uint64 (Steele, Lea and Flood, 2014)."""
    z = (z ^ (z >> 30)) * MIX1
    z = (z ^ (z >> 27)) * MIX2
    return z ^ (z >> 31)


@triton.jit
def exp32_between(x):
    """exp32 of EXP_MIN <= x <= EXP_MAX; of any other x something, never a fault."""
    magic = tl.fma(x, LOG2E, MAGIC)
    n = magic - MAGIC
    r = tl.fma(n, -LN2_HI, x)
    r = tl.fma(n, -LN2_LO, r)
    p = tl.fma(E6, r, E5)
    p = tl.fma(p, r, E4)
    p = tl.fma(p, r, E3)
    p = tl.fma(p, r, E2)
    y = tl.fma(tl.fma(p, r, 1.0), r, 1.0)
    bits = y.to(tl.uint32, bitcast=True) + (magic.to(tl.uint32, bitcast=True) << 23)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def exp32(x):
    """e^x within 1 ulp; 0 where that is less than the smallest normal number. NaN stays NaN."""
    bounded = tl.where(x > EXP_MAX, float("inf"), tl.where(x < EXP_MIN, 0.0, exp32_between(x)))
    return tl.where(x != x, x, bounded)


@triton.jit
def log32(x):
    """The natural logarithm of a positive normal x within 1 ulp; -inf for 0, NaN for NaN. No other x."""
    bits = x.to(tl.uint32, bitcast=True)
    n = (bits - 0x3F2AAAAB).to(tl.int32, bitcast=True) >> 23
    f = (bits - (n.to(tl.uint32, bitcast=True) << 23)).to(tl.float32, bitcast=True) - 1.0
    p = tl.fma(L10, f, L9)
    p = tl.fma(p, f, L8)
    p = tl.fma(p, f, L7)
    p = tl.fma(p, f, L6)
    p = tl.fma(p, f, L5)
    p = tl.fma(p, f, L4)
    p = tl.fma(p, f, L3)
    p = tl.fma(p, f, L2)
    e = n.to(tl.float32)
    y = tl.fma(e, LN2_LO, tl.fma(f * f, p, f))
    y = tl.fma(e, LN2_HI, y)
    return tl.where(x != x, x, tl.where(x == 0.0, float("-inf"), y))


@triton.jit
def silu32(x):
    """x * sigmoid(x), as x / (1 + e^-x)."""
    return tl.div_rn(x, 1.0 + exp32(-x))


@triton.jit
def tree_sum(lanes, N: tl.constexpr):
    """The sum over the last axis of lanes [M, N], N a power of two: halves are added until one lane is left.

    Never a bare tl.sum over many lanes: its order would be the layout's.
    """
    M: tl.constexpr = lanes.shape[0]
    half: tl.constexpr = N // 2
    if half == 0:
        return tl.reshape(lanes, [M])
    else:  # noqa: RET505  Triton compiles one branch, and nothing that stands after both
        return tree_sum(tl.sum(tl.reshape(lanes, [M, 2, half]), axis=1), half)


@triton.jit
def carry(total, one, two, four, leaf):
    """One leaf of the tree of `kernels/leaves.py` after another: what it adds up to.

    Gives the sum that leaf number `leaf`, whose own is `total`, completes, and those of 1, 2 and 4 leaves
    that wait. As a binary counter carries: each low bit of `leaf` that is set completes a sum. One that waits
    no more is replaced by another that is there anyway, to need fewer registers.
    """
    if leaf % 2 == 1:
        total = one + total
        if leaf % 4 == 3:
            total = two + total
            if leaf % 8 == 7:
                total = four + total
            four = total
        two = total
    return total, total, two, four


@triton.jit
def narrow(x, dtype: tl.constexpr):
    """A float32 rounded to nearest even as `dtype`: float32, float16 or bfloat16."""
    if dtype == tl.bfloat16 and _INTERPRETED:
        # the interpreter truncates
        bits = x.to(tl.uint32, bitcast=True)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        kept = tl.where(x == x, nearest, (bits | 0x400000) >> 16)
        return kept.to(tl.uint16).to(tl.bfloat16, bitcast=True)
    return x.to(dtype)

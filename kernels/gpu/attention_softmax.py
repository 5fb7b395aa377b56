"""One block of KV in low precision: what prefill and decode share, so that their bits agree.

Scores are dot products over d, and values a dot product over rising positions from acc * alpha: on tensor
cores the bits of either do not depend on the tile's shape or on the launch. The row sum must not either: each
p is rounded to 2^-23 by adding 1.0, and its bits are added as integers, exact in any order. Everything else
is elementwise, and a maximum.
"""

from detrec.kernels.gpu.portable import narrow
from detrec.kernels.launch import INTERPRETED, tl, triton

# parts of the result: to change one is to change bits, and to bump KERNELS_VERSION
KV_BLOCK = 128
PARTITION = 512
"""Positions that one online softmax runs over; partitions are merged in rising order."""

LOG2E = 1.4426950408889634

_INTERPRETED = tl.constexpr(INTERPRETED)
_ULP = tl.constexpr(2.0**-23)


@triton.jit
def dot(a, b, acc):
    """acc + a @ b; the interpreter has no arithmetic for bfloat16."""
    if _INTERPRETED:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc)
    return tl.dot(a, b, acc)


@triton.jit
def exact_sum(p):
    """The sum over the last axis of p [M, N], each in [0, 1] and rounded to 2^-23; N up to 128.

    N times the bits of 1.0, which are 127 << 23, are -N << 23 modulo 2^32.
    """
    bits = (p + 1.0).to(tl.int32, bitcast=True)
    return (tl.sum(bits, axis=1) + (p.shape[1] << 23)).to(tl.float32) * _ULP


@triton.jit
def visit(s, v, m, total, acc, scale):
    """One step of the online softmax: scores s [M, N], -inf where a line sees nothing, and values v [N, D].

    `scale` is the model's times log2(e). Gives m, total and acc.
    """
    new = tl.maximum(m, tl.max(s, axis=1) * scale)
    # a line that has seen nothing yet: all of its p must be 0, not NaN
    base = tl.where(new == float("-inf"), 0.0, new)
    p = tl.exp2(tl.fma(s, scale + tl.zeros_like(s), tl.zeros_like(s) - base[:, None]))
    alpha = tl.exp2(m - base)
    total = total * alpha + exact_sum(p)
    acc = dot(narrow(p, v.dtype), v, acc * alpha[:, None])
    return new, total, acc


@triton.jit
def merge(m, total, acc, part_m, part_total, part_acc):
    """What was merged so far and the next partition: m, total [M] and acc [M, D] of both."""
    new = tl.maximum(m, part_m)
    base = tl.where(new == float("-inf"), 0.0, new)
    a, b = tl.exp2(m - base), tl.exp2(part_m - base)
    return new, total * a + part_total * b, acc * a[:, None] + part_acc * b[:, None]

"""Rotary position embedding: every pair is rotated by itself, so a row cannot see another.

Rotate-half: the pair is (x[i], x[i + D/2]) of one head, and its angle position * inv_freq[i]. The tables
are computed once with float64 mul and add alone, because the sines of two maths libraries differ in their
last bit.
"""

from decimal import Decimal, localcontext

import numpy as np
from numba import get_num_threads, prange

from detrec.kernels.cpu.compiling import SHARE, compiled, shared
from detrec.kernels.cpu.portable import fma, narrow, widen
from detrec.kernels.cpu.rows import expect_rows, row_of

KERNEL = "cpu.rope rotate_half y1=fma(-x2,s,x1*c) y2=fma(x2,c,x1*s)"

# pi/2 in three parts of 33, 33 and 53 bits: n times either of the first two is exact for n < 2^20
HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
MAX_ANGLE = 1.5e6


def _polynomial(square: np.ndarray, first: int) -> np.ndarray:
    """Taylor's 1/first! - square/(first+2)! + ..., to float64's last bits for an angle up to pi/4."""
    terms = [1.0]
    for n in range(first + 1, first + 19, 2):
        terms.append(terms[-1] / -(n * (n + 1)))
    total = np.full_like(square, terms[-1])
    for term in terms[-2::-1]:
        total = total * square + term
    return total


def _sin_cos(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sine and cosine of float64 angles in [0, MAX_ANGLE]: Cody and Waite's reduction, then Taylor."""
    n = np.rint(angle * (2 / np.pi))
    r = ((angle - n * HALF_PI[0]) - n * HALF_PI[1]) - n * HALF_PI[2]
    square = r * r
    sine, cosine = r * _polynomial(square, 1), _polynomial(square, 0)
    quadrant = n.astype(np.int64) & 3
    odd = (quadrant & 1).astype(bool)
    sin = np.where(odd, cosine, sine) * np.where(quadrant >= 2, -1.0, 1.0)
    cos = np.where(odd, sine, cosine) * np.where((quadrant == 1) | (quadrant == 2), -1.0, 1.0)
    return sin, cos


def inv_freq(theta: float, head_dim: int) -> np.ndarray:
    """theta^(-2i/D) for i in 0 .. D/2 - 1, float64 [D/2]; the same on every machine (decimal arithmetic)."""
    if head_dim < 2 or head_dim % 2:
        raise ValueError(f"inv_freq: head_dim is {head_dim}, expected an even number")
    with localcontext() as context:
        context.prec = 40
        log = Decimal(theta).ln()
        return np.array([float((log * (-2 * i) / head_dim).exp()) for i in range(head_dim // 2)])


def rope_tables(frequencies: np.ndarray, max_positions: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of position * frequency, float32 [max_positions, D/2] each.

    `frequencies` float64 [D/2], radians a position: `inv_freq`, scaled as the model wants.
    """
    angle = np.arange(max_positions, dtype=np.float64)[:, None] * np.asarray(frequencies, np.float64)
    if angle.size and not (angle.min() >= 0 and angle.max() <= MAX_ANGLE):
        raise ValueError(f"rope_tables: angles up to {angle.max()} radians, expected 0 to {MAX_ANGLE}")
    sin, cos = _sin_cos(angle)
    return cos.astype(np.float32), sin.astype(np.float32)


@compiled
def _rope(x: np.ndarray, positions: np.ndarray, cos: np.ndarray, sin: np.ndarray, out: np.ndarray) -> int:
    """The first row whose position the tables lack, or -1."""
    half = cos.shape[1]
    for row in range(x.shape[0]):
        position = positions[row]
        if position < 0 or position >= cos.shape[0]:
            return row
        xs, ys, c, s = row_of(x, row), row_of(out, row), row_of(cos, position), row_of(sin, position)
        for head in range(0, xs.size, 2 * half):
            x1, x2 = xs[head : head + half], xs[head + half : head + 2 * half]
            y1, y2 = ys[head : head + half], ys[head + half : head + 2 * half]
            for i in range(half):
                first, second = widen(x1[i]), widen(x2[i])
                y1[i] = narrow(fma(-second, s[i], first * c[i]), out)
                y2[i] = narrow(fma(second, c[i], first * s[i]), out)
    return -1


@shared
def _shared(
    x: np.ndarray, positions: np.ndarray, cos: np.ndarray, sin: np.ndarray, out: np.ndarray, threads: int
) -> None:
    for thread in prange(threads):
        first, last = len(out) * thread // threads, len(out) * (thread + 1) // threads
        _rope(x[first:last], positions[first:last], cos, sin, out[first:last])


def rope(
    x: np.ndarray, positions: np.ndarray, cos: np.ndarray, sin: np.ndarray, out: np.ndarray
) -> np.ndarray:
    """Rotate every head of x by its row's position; gives `out`, which may be x.

    x and out [R, heads*D], float32 or bfloat16 bits (uint16), rows contiguous; positions int64 [R]; cos and
    sin float32 [positions, D/2] from `rope_tables`. Su et al., RoFormer, 2021.
    """
    expect_rows("rope", "x", x)
    expect_rows("rope", "out", out)
    if out.shape != x.shape:
        raise ValueError(f"rope: out has shape {list(out.shape)}, x has {list(x.shape)}")
    if positions.shape != x.shape[:1] or positions.dtype != np.int64:
        raise ValueError(
            f"rope: positions are {positions.dtype} {list(positions.shape)}, expected int64 [{x.shape[0]}]"
        )
    if cos.shape != sin.shape or cos.ndim != 2 or not cos.shape[1] or x.shape[1] % (2 * cos.shape[1]):
        raise ValueError(
            f"rope: tables of shape {list(cos.shape)} and {list(sin.shape)}, expected [positions, D/2] "
            f"with D dividing {x.shape[1]} columns"
        )
    if out.size >= SHARE and positions.min() >= 0 and positions.max() < len(cos):
        _shared(x, positions, cos, sin, out, get_num_threads())
        return out
    wrong = _rope(x, positions, cos, sin, out)
    if wrong >= 0:
        raise ValueError(f"rope: row {wrong} is at position {positions[wrong]}, tables hold {cos.shape[0]}")
    return out

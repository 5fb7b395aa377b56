"""Softmax and log-softmax whose every row is computed the same way, whatever rows surround it.

Invariant: a row's sum of exp32(x - max) is taken by min(8192, next power of two >= V) lanes, each from left
to right, then neighbouring lanes are added pair by pair until one is left: an order in which a GPU can share
a row between programs and read it once. One thread owns a row, and threads share no number.
"""

import numpy as np
from numba import prange

from detrec.kernels.cpu.compiling import shared
from detrec.kernels.cpu.portable import (
    ZERO,
    compiled,
    exp32,
    log32,
    narrow,
    select,
    widen,
)
from detrec.kernels.cpu.rows import expect_rows, row_of

KERNEL = "cpu.log_softmax lanes=8192 pairs exp32 log32 (x-max)-log(sum)"

LANES = 8192
"""Most lanes of a row: part of every result."""

NEAR = 1024
"""Lanes that are summed at a time, so that they stay in the nearest cache; moves no bit."""

LOWEST = np.float32(-np.inf)
PARALLEL_ELEMENTS = 1 << 20
"""Below it one thread is faster; the bits are equal on either side."""


@compiled
def _lanes_of(columns: int) -> int:
    lanes = 1
    while lanes < columns and lanes < LANES:
        lanes *= 2
    return lanes


@compiled
def _pair_sum(lanes: np.ndarray, spare: np.ndarray) -> np.float32:
    """The sum of lanes, a power of two of them: lanes[i] = lanes[2i] + lanes[2i + 1] until one is left."""
    left = lanes.size
    while left >= 8:
        left >>= 3
        # three levels a pass, into other memory, so that the loop is vectorised
        for i in range(left):
            a, b = lanes[8 * i] + lanes[8 * i + 1], lanes[8 * i + 2] + lanes[8 * i + 3]
            c, d = lanes[8 * i + 4] + lanes[8 * i + 5], lanes[8 * i + 6] + lanes[8 * i + 7]
            spare[i] = (a + b) + (c + d)
        lanes, spare = spare, lanes
    while left > 1:
        left >>= 1
        for i in range(left):
            lanes[i] = lanes[2 * i] + lanes[2 * i + 1]
    return lanes[0]


@compiled
def _row(xs: np.ndarray, ys: np.ndarray, lanes: np.ndarray, spare: np.ndarray, logarithm: bool) -> None:
    n_lanes, near = lanes.size, lanes[:NEAR]
    near[:] = LOWEST
    for start in range(0, xs.size, near.size):
        part = xs[start : start + near.size]
        for lane in range(part.size):
            value = widen(part[lane])
            near[lane] = select(value > near[lane], value, near[lane])
    half = near.size >> 1
    while half:
        for lane in range(half):
            other = near[lane + half]
            near[lane] = select(other > near[lane], other, near[lane])
        half >>= 1
    highest = near[0]
    lanes[:] = ZERO
    for first in range(0, n_lanes, NEAR):
        near = lanes[first : first + NEAR]
        for start in range(first, xs.size, n_lanes):
            part = xs[start : start + near.size]
            for lane in range(part.size):
                near[lane] += exp32(widen(part[lane]) - highest)
    total = _pair_sum(lanes, spare)
    if logarithm:
        log_total = log32(total)
        for i in range(xs.size):
            ys[i] = narrow((widen(xs[i]) - highest) - log_total, ys)
    else:
        for i in range(xs.size):
            ys[i] = narrow(exp32(widen(xs[i]) - highest) / total, ys)


@compiled
def _serial(x: np.ndarray, out: np.ndarray, logarithm: bool) -> None:
    lanes = np.empty((2, _lanes_of(x.shape[1])), np.float32)
    for row in range(x.shape[0]):
        _row(row_of(x, row), row_of(out, row), lanes[0], lanes[1], logarithm)


@shared
def _parallel(x: np.ndarray, out: np.ndarray, logarithm: bool) -> None:
    for row in prange(x.shape[0]):
        lanes = np.empty((2, _lanes_of(x.shape[1])), np.float32)
        _row(row_of(x, row), row_of(out, row), lanes[0], lanes[1], logarithm)


def _run(kernel: str, x: np.ndarray, out: np.ndarray, logarithm: bool) -> np.ndarray:
    expect_rows(kernel, "x", x)
    expect_rows(kernel, "out", out)
    if out.shape != x.shape or not x.shape[1]:
        raise ValueError(
            f"{kernel}: x has shape {list(x.shape)}, out {list(out.shape)}, expected one [S, V > 0]"
        )
    if x.shape[0] > 1 and x.size >= PARALLEL_ELEMENTS:
        _parallel(x, out, logarithm)
    else:
        _serial(x, out, logarithm)
    return out


def log_softmax(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """x - log(sum(exp(x))) of every row; gives `out`, which may be x.

    x and out [S, V], float32 or bfloat16 bits (uint16), rows contiguous. A row that holds NaN or +inf, or
    only -inf, is NaN throughout or in part; -inf elsewhere stays -inf.
    """
    return _run("log_softmax", x, out, True)


def softmax(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """exp(x) / sum(exp(x)) of every row; gives `out`. Shapes, dtypes, special values as `log_softmax`."""
    return _run("softmax", x, out, False)

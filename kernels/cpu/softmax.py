"""Softmax and log-softmax whose every row is computed the same way, whatever rows surround it.

Invariant: a row's maximum and its sum of exp32(x - max) are taken by min(1024, next power of two >= V)
lanes, each from left to right, then the lanes are halved in one tree. One thread owns a row, and threads
share no number.
"""

import numpy as np
from numba import prange

from detrec.kernels.cpu.compiling import shared
from detrec.kernels.cpu.portable import (
    ZERO,
    compiled,
    exp32,
    lanes_of,
    log32,
    narrow,
    select,
    tree_sum,
    widen,
)
from detrec.kernels.cpu.rows import expect_rows, row_of

KERNEL = "cpu.log_softmax lanes=1024 exp32 log32 (x-max)-log(sum)"

LOWEST = np.float32(-np.inf)
PARALLEL_ELEMENTS = 1 << 20
"""Below it one thread is faster; the bits are equal on either side."""


@compiled
def _row(xs: np.ndarray, ys: np.ndarray, lanes: np.ndarray, logarithm: bool) -> None:
    n_lanes = lanes.size
    lanes[:] = LOWEST
    for start in range(0, xs.size, n_lanes):
        part = xs[start : start + n_lanes]
        for lane in range(part.size):
            value = widen(part[lane])
            lanes[lane] = select(value > lanes[lane], value, lanes[lane])
    half = n_lanes >> 1
    while half:
        for lane in range(half):
            other = lanes[lane + half]
            lanes[lane] = select(other > lanes[lane], other, lanes[lane])
        half >>= 1
    highest = lanes[0]
    lanes[:] = ZERO
    for start in range(0, xs.size, n_lanes):
        part = xs[start : start + n_lanes]
        for lane in range(part.size):
            lanes[lane] += exp32(widen(part[lane]) - highest)
    total = tree_sum(lanes, n_lanes)
    if logarithm:
        log_total = log32(total)
        for i in range(xs.size):
            ys[i] = narrow((widen(xs[i]) - highest) - log_total, ys)
    else:
        for i in range(xs.size):
            ys[i] = narrow(exp32(widen(xs[i]) - highest) / total, ys)


@compiled
def _serial(x: np.ndarray, out: np.ndarray, logarithm: bool) -> None:
    lanes = np.empty(lanes_of(x.shape[1]), np.float32)
    for row in range(x.shape[0]):
        _row(row_of(x, row), row_of(out, row), lanes, logarithm)


@shared
def _parallel(x: np.ndarray, out: np.ndarray, logarithm: bool) -> None:
    for row in prange(x.shape[0]):
        lanes = np.empty(lanes_of(x.shape[1]), np.float32)
        _row(row_of(x, row), row_of(out, row), lanes, logarithm)


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

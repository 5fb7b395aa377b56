"""Elementwise sum: one float32 addition an element, so a row cannot see another."""

import numpy as np
from numba import get_num_threads, prange

from detrec.kernels.cpu.compiling import SHARE, compiled, shared
from detrec.kernels.cpu.portable import narrow, widen
from detrec.kernels.cpu.rows import expect_rows, row_of

KERNEL = "cpu.add float32"


@compiled
def _add(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
    for row in range(x.shape[0]):
        xs, ys, sums = row_of(x, row), row_of(y, row), row_of(out, row)
        for i in range(xs.size):
            sums[i] = narrow(widen(xs[i]) + widen(ys[i]), out)


@shared
def _shared(x: np.ndarray, y: np.ndarray, out: np.ndarray, threads: int) -> None:
    for thread in prange(threads):
        first, last = len(out) * thread // threads, len(out) * (thread + 1) // threads
        _add(x[first:last], y[first:last], out[first:last])


def add(x: np.ndarray, y: np.ndarray, out: np.ndarray) -> np.ndarray:
    """x + y; gives `out`, which may be x or y. All [R, C], float32 or bfloat16 bits (uint16)."""
    expect_rows("add", "x", x)
    expect_rows("add", "y", y)
    expect_rows("add", "out", out)
    if not x.shape == y.shape == out.shape:
        raise ValueError(
            f"add: shapes {list(x.shape)}, {list(y.shape)} and out {list(out.shape)}, expected one shape"
        )
    if out.size < SHARE:
        _add(x, y, out)
    else:
        _shared(x, y, out, get_num_threads())
    return out

"""Log-softmax whose sum is one chain: a fault kernel, what a sampler of its own gives beside the usual one.

A row's exp32(x - max) are added one after another from left to right, where `softmax.py` adds lanes pair by
pair. So its last bits are others, which is the point: nothing but a fault may call it.
"""

import numpy as np

from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.cpu.portable import ZERO, exp32, log32, narrow, widen
from detrec.kernels.cpu.rows import expect_rows, row_of

KERNEL = "cpu.chain_log_softmax chain exp32 log32 (x-max)-log(sum)"


@compiled
def _chain_log_softmax(x: np.ndarray, out: np.ndarray) -> None:
    for row in range(x.shape[0]):
        xs, ys = row_of(x, row), row_of(out, row)
        highest = widen(xs[0])
        for i in range(1, xs.size):
            highest = max(highest, widen(xs[i]))
        total = ZERO
        for i in range(xs.size):
            total += exp32(widen(xs[i]) - highest)
        log_total = log32(total)
        for i in range(xs.size):
            ys[i] = narrow((widen(xs[i]) - highest) - log_total, ys)


def chain_log_softmax(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """x - log(sum(exp(x))) of every row; gives `out`. Shapes and dtypes as `log_softmax`; x is finite."""
    expect_rows("chain_log_softmax", "x", x)
    expect_rows("chain_log_softmax", "out", out)
    if out.shape != x.shape or not x.shape[1]:
        raise ValueError(
            f"chain_log_softmax: x has shape {list(x.shape)}, out {list(out.shape)}, expected one [S, V > 0]"
        )
    _chain_log_softmax(x, out)
    return out

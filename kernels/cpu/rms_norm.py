"""RMS norm whose every row is computed the same way, whatever rows surround it.

Invariant: a group of C columns is squared and added by min(1024, next power of two >= C) lanes, each from
left to right by fma, then the lanes are halved in one tree. Nothing but C chooses that order.
"""

import numpy as np
from numba import get_num_threads, prange

from detrec.kernels.cpu.compiling import SHARE, compiled, shared
from detrec.kernels.cpu.portable import ONE, ZERO, fma, lanes_of, narrow, tree_sum, widen
from detrec.kernels.cpu.rows import expect_rows, row_of

KERNEL = "cpu.rms_norm lanes=1024 squares=fma (x*rstd)*w"


@compiled
def _rms_norm(x: np.ndarray, weight: np.ndarray, eps: np.float32, out: np.ndarray) -> None:
    columns = weight.size
    n_lanes = lanes_of(columns)
    lanes = np.empty(n_lanes, np.float32)
    for row in range(x.shape[0]):
        xs, ys = row_of(x, row), row_of(out, row)
        for group in range(0, xs.size, columns):
            xg, yg = xs[group : group + columns], ys[group : group + columns]
            lanes[:] = ZERO
            for start in range(0, columns, n_lanes):
                part = xg[start : start + n_lanes]
                for lane in range(part.size):
                    value = widen(part[lane])
                    lanes[lane] = fma(value, value, lanes[lane])
            rstd = ONE / np.sqrt(tree_sum(lanes, n_lanes) / np.float32(columns) + eps)
            for i in range(columns):
                yg[i] = narrow((widen(xg[i]) * rstd) * widen(weight[i]), out)


@shared
def _shared(x: np.ndarray, weight: np.ndarray, eps: np.float32, out: np.ndarray, threads: int) -> None:
    for thread in prange(threads):
        first, last = len(out) * thread // threads, len(out) * (thread + 1) // threads
        _rms_norm(x[first:last], weight, eps, out[first:last])


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float, out: np.ndarray) -> np.ndarray:
    """Divide every group of C columns of x by its root mean square and multiply by weight; gives `out`.

    x [R, G*C] float32 or bfloat16 bits (uint16), rows contiguous and at any stride; weight [C], contiguous;
    out like x, may be x. Zhang and Sennrich, Root Mean Square Layer Normalization, 2019.
    """
    expect_rows("rms_norm", "x", x)
    expect_rows("rms_norm", "out", out)
    if out.shape != x.shape:
        raise ValueError(f"rms_norm: out has shape {list(out.shape)}, x has {list(x.shape)}")
    if weight.ndim != 1 or not weight.size or x.shape[1] % weight.size:
        raise ValueError(
            f"rms_norm: weight has shape {list(weight.shape)}, expected [C], C dividing {x.shape[1]} columns"
        )
    if out.size < SHARE:
        _rms_norm(x, weight, np.float32(eps), out)
    else:
        _shared(x, weight, np.float32(eps), out, get_num_threads())
    return out

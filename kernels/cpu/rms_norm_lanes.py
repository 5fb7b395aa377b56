"""RMS norm by a number of lanes that its caller chooses: a fault kernel.

`rms_norm` lets nothing but the width choose its lanes; here they may follow the batch, and with them the
order in which the squares are added. Nothing but a fault and the negative control of a test may call it.
"""

import numpy as np

from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.cpu.portable import ONE, ZERO, fma, narrow, tree_sum, widen


def kernel(lanes: int) -> str:
    """Names the kernel and all of its configuration that could move a bit."""
    return f"cpu.rms_norm lanes={lanes} squares=fma (x*rstd)*w"


@compiled
def _rows(x: np.ndarray, weight: np.ndarray, eps: np.float32, out: np.ndarray, n_lanes: int) -> None:
    columns, lanes = weight.size, np.empty(n_lanes, np.float32)
    for row in range(x.shape[0]):
        for group in range(0, x.shape[1], columns):
            lanes[:] = ZERO
            for i in range(columns):
                value = widen(x[row, group + i])
                lanes[i % n_lanes] = fma(value, value, lanes[i % n_lanes])
            rstd = ONE / np.sqrt(tree_sum(lanes, n_lanes) / np.float32(columns) + eps)
            for i in range(columns):
                out[row, group + i] = narrow((widen(x[row, group + i]) * rstd) * widen(weight[i]), out)


def rms_norm_by_lanes(
    x: np.ndarray, weight: np.ndarray, eps: float, out: np.ndarray, lanes: int
) -> np.ndarray:
    """`rms_norm` with `lanes`, a power of two, instead of its own number of them; gives `out`."""
    if lanes < 1 or lanes & (lanes - 1):
        raise ValueError(f"rms_norm_by_lanes: lanes is {lanes}, expected a power of two")
    _rows(x, weight, np.float32(eps), out, lanes)
    return out

"""Mean over any axes whose every element is computed the same way, whatever elements surround it.

Invariant: the reduced elements, in row-major order, are added by min(1024, next power of two >= their
number) lanes, each from left to right, then the lanes are halved in one tree.
"""

from math import prod

import numpy as np

from detrec.kernels.axes import mean_axes
from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.cpu.portable import ZERO, lanes_of, tree_sum, widen

KERNEL = "cpu.mean lanes=1024 sum/n"


@compiled
def _mean(x: np.ndarray, out: np.ndarray) -> None:
    columns = x.shape[1]
    n_lanes = lanes_of(columns)
    lanes = np.empty(n_lanes, np.float32)
    for row in range(x.shape[0]):
        xs = x[row]
        lanes[:] = ZERO
        for start in range(0, columns, n_lanes):
            part = xs[start : start + n_lanes]
            for lane in range(part.size):
                lanes[lane] += widen(part[lane])
        out[row] = tree_sum(lanes, n_lanes) / np.float32(columns)


def mean(x: np.ndarray, axis: int | tuple[int, ...] | None = None) -> np.ndarray:
    """The mean of x over `axis` (None: over all), float32 of the remaining shape.

    x float32 or bfloat16 bits (uint16), any strides. The order of `axis` does not matter; a mean of no
    elements is a ValueError.
    """
    kept, reduced, shape, columns = mean_axes(x.shape, axis)
    out = np.empty(shape, np.float32)
    flat = np.ascontiguousarray(x.transpose(kept + reduced)).reshape(prod(shape), columns)
    _mean(flat, out.reshape(-1))
    return out

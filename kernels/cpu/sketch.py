"""A few float32 numbers of every row, by which runs of other engines, dtypes and devices compare.

A sketch is the row's 2-norm and PROJECTIONS sums of its elements under fixed signs drawn from a hash of the
column. For two rows x and y the mean square of the differences of their projections estimates |x - y|^2
(Achlioptas, Database-friendly random projections, 2003). A row's sketch depends on that row alone: LANES
sums in float64, each from left to right, then halved in one tree.
"""

from functools import lru_cache

import numpy as np
from numba import get_num_threads, prange

from detrec.kernels.cpu.compiling import SHARE, compiled, shared
from detrec.kernels.cpu.fingerprint import mixed
from detrec.kernels.cpu.portable import widen
from detrec.kernels.cpu.rows import expect_rows, row_of
from detrec.kernels.projections import PARTS, PROJECTIONS

KERNEL = "cpu.sketch norm signs=3"
"""Names the kernel and all of its configuration that could change what a sketch means."""

LANES = 16


@lru_cache(maxsize=32)
def signs(width: int) -> np.ndarray:
    """+1 and -1, float32 [PROJECTIONS, width]: bit p of the hash of the column + 1 is 1 where it is -1."""
    hashed = mixed(np.arange(1, width + 1, dtype=np.uint64))
    bits = (hashed[None, :] >> np.arange(PROJECTIONS, dtype=np.uint64)[:, None]) & np.uint64(1)
    table: np.ndarray = np.where(bits == 1, -1, 1).astype(np.float32)
    table.flags.writeable = False
    return table


@compiled
def _add(xs: np.ndarray, table: np.ndarray, start: int, stop: int, lanes: np.ndarray) -> None:
    """Add columns [start, stop), LANES at most, to their lanes."""
    for lane in range(stop - start):
        value = np.float64(widen(xs[start + lane]))
        lanes[0, lane] += value * value
        lanes[1, lane] += value * np.float64(table[0, start + lane])
        lanes[2, lane] += value * np.float64(table[1, start + lane])
        lanes[3, lane] += value * np.float64(table[2, start + lane])


@shared
def _sketch(x: np.ndarray, table: np.ndarray, out: np.ndarray, threads: int) -> None:
    width = x.shape[1]
    whole = width - width % LANES
    for thread in prange(threads):
        lanes = np.empty((4, LANES), np.float64)
        for row in range(len(x) * thread // threads, len(x) * (thread + 1) // threads):
            xs = row_of(x, row)
            lanes[:] = 0.0
            for start in range(0, whole, LANES):
                _add(xs, table, start, start + LANES, lanes)
            _add(xs, table, whole, width, lanes)
            half = LANES // 2
            while half:
                lanes[:, :half] += lanes[:, half : 2 * half]
                half //= 2
            out[row, 0] = np.sqrt(lanes[0, 0])
            out[row, 1:] = lanes[1:, 0]


def sketch(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The sketch of every row of x; gives `out`.

    x [rows, width] float32 or bfloat16 bits (uint16), rows contiguous and at any stride. out float32
    [rows, PARTS], contiguous: the norm, then the projections. ValueError where they do not fit.
    """
    if x.dtype not in (np.float32, np.uint16):
        raise ValueError(f"sketch: x is {x.dtype}, expected float32 or uint16 (bfloat16 bits)")
    expect_rows("sketch", "x", x)
    if out.dtype != np.float32 or out.shape != (len(x), PARTS) or not out.flags.c_contiguous:
        raise ValueError(
            f"sketch: out is {out.dtype} {list(out.shape)}, expected contiguous float32 [{len(x)}, {PARTS}]"
        )
    threads = min(get_num_threads(), max(len(x), 1)) if x.size > SHARE else 1
    _sketch(x, signs(x.shape[1]), out, threads)
    return out

"""SwiGLU's gate: every element is computed by itself, so a row cannot see another."""

import numpy as np
from numba import get_num_threads, prange

from detrec.kernels.cpu.compiling import SHARE, compiled, shared
from detrec.kernels.cpu.portable import narrow, silu32, widen
from detrec.kernels.cpu.rows import expect_rows, row_of

KERNEL = "cpu.silu_mul x/(1+exp32(-x))*y"


@compiled
def _silu_mul(x: np.ndarray, out: np.ndarray) -> None:
    half = out.shape[1]
    for row in range(x.shape[0]):
        xs, ys = row_of(x, row), row_of(out, row)
        gate, up = xs[:half], xs[half:]
        for i in range(half):
            ys[i] = narrow(silu32(widen(gate[i])) * widen(up[i]), out)


@shared
def _shared(x: np.ndarray, out: np.ndarray, threads: int) -> None:
    for thread in prange(threads):
        first, last = len(out) * thread // threads, len(out) * (thread + 1) // threads
        _silu_mul(x[first:last], out[first:last])


def silu_mul(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """silu(x[:, :F]) * x[:, F:]; gives `out`.

    x [R, 2F] and out [R, F], float32 or bfloat16 bits (uint16), rows contiguous. Shazeer, GLU Variants
    Improve Transformer, 2020.
    """
    expect_rows("silu_mul", "x", x)
    expect_rows("silu_mul", "out", out)
    if x.shape != (out.shape[0], 2 * out.shape[1]):
        raise ValueError(
            f"silu_mul: x has shape {list(x.shape)}, out {list(out.shape)}, expected [R, 2F], [R, F]"
        )
    if out.size < SHARE:
        _silu_mul(x, out)
    else:
        _shared(x, out, get_num_threads())
    return out

"""SwiGLU's gate by a hyperbolic tangent: a fault kernel, equal on paper and not in bits.

silu(x) = x / 2 * (1 + tanh(x / 2)), with tanh(y) = (1 - e^-2y) / (1 + e^-2y) of the absolute value.
"""

import numpy as np

from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.cpu.portable import ONE, ZERO, exp32, narrow, select, widen

HALF = np.float32(0.5)


@compiled
def _rows(x: np.ndarray, out: np.ndarray) -> None:
    half = out.shape[1]
    for row in range(out.shape[0]):
        for i in range(half):
            gate = widen(x[row, i])
            e = exp32(-abs(gate))
            tangent = (ONE - e) / (ONE + e)
            gate = (gate * HALF) * (ONE + select(gate < ZERO, -tangent, tangent))
            out[row, i] = narrow(gate * widen(x[row, half + i]), out)


def silu_mul_by_tanh(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """`silu_mul`, by another formula; gives `out`. x [R, 2F], out [R, F]."""
    _rows(x, out)
    return out

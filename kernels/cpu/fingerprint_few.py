"""Fingerprints of several small outputs by one call: of a small one most of the time goes into the call.

The fingerprints are those of kernels/cpu/fingerprint.py, computed by its code.
"""

import numpy as np
from numba import types

from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.cpu.fingerprint import DTYPE_CODES, _row, salt

FEW = 8
"""Outputs of one call."""

_FLOAT32, _BFLOAT16 = DTYPE_CODES["float32"], DTYPE_CODES["bfloat16"]


@compiled
def _put(x: np.ndarray, out: np.ndarray) -> None:
    rows, width = x.shape
    address, size = x.ctypes.data, width * x.itemsize
    mark = salt(_FLOAT32 if x.itemsize == 4 else _BFLOAT16, width)
    for row in range(rows):
        out[row] = _row(address + row * size, size, mark)


# arguments one by one: a tuple of arrays takes as long to hand over as a call for each of them
@compiled
def fingerprint_few(
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    d: np.ndarray,
    e: np.ndarray,
    f: np.ndarray,
    g: np.ndarray,
    h: np.ndarray,
    out: np.ndarray,
    start: int,
    rows: int,
) -> bool:
    """Put the fingerprint of every row of FEW outputs to out[start : start + FEW * rows], output by output.

    a to h [rows, width] of float32, or all of uint16 (bfloat16 bits), contiguous, each of any width; out
    uint64, contiguous. Gives False, with nothing done, where they have other rows or no room; TypeError for
    arrays of another kind. For outputs that are small: it runs on one thread.
    """
    if start < 0 or start + FEW * rows > len(out):
        return False
    for x in (a, b, c, d, e, f, g, h):
        if len(x) != rows:
            return False
    for x in (a, b, c, d, e, f, g, h):
        _put(x, out[start : start + rows])
        start += rows
    return True


def _compile() -> None:
    """For what is taken, and for nothing else that comes: to compile takes seconds."""
    out = types.Array(types.uint64, 1, "C")
    for element in (types.float32, types.uint16):
        outputs = (types.Array(element, 2, "C"),) * FEW
        fingerprint_few.compile((*outputs, out, types.int64, types.int64))
    fingerprint_few.disable_compile()


_compile()

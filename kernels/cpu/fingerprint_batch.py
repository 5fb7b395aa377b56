"""Fingerprints of several outputs in one call: for steps of a few rows, whose cost is the calls.

Every fingerprint is that of kernels/cpu/fingerprint.py.
"""

from collections.abc import Sequence

import numpy as np

from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.cpu.fingerprint import CODES, fingerprint, row_fingerprint, salt

TOGETHER = 8
"""How many outputs a call takes at most."""


@compiled
def _together(
    code: int,
    prints: np.ndarray,
    indices: tuple[int, ...],
    x0: np.ndarray,
    x1: np.ndarray,
    x2: np.ndarray,
    x3: np.ndarray,
    x4: np.ndarray,
    x5: np.ndarray,
    x6: np.ndarray,
    x7: np.ndarray,
) -> None:
    at = 0
    before, width, last = 0, 0, 0
    for x in (x0, x1, x2, x3, x4, x5, x6, x7):
        index, address = indices[at], x.ctypes.data
        # what an all-reduce over one rank gives is what it got
        if at and address == before and x.shape[1] == width:
            for row in range(x.shape[0]):
                prints[index, row] = prints[last, row]
        else:
            mark, size = salt(code, x.shape[1]), x.shape[1] * x.itemsize
            for row in range(x.shape[0]):
                prints[index, row] = row_fingerprint(address + row * size, size, mark)
        before, width, last = address, x.shape[1], index
        at += 1


def fingerprint_together(outputs: Sequence[np.ndarray], indices: Sequence[int], prints: np.ndarray) -> None:
    """Put the fingerprints of each output's rows into its row of `prints`.

    outputs: 1 to TOGETHER of [rows, width], of what `fingerprint` takes; output i goes to prints[indices[i]].
    prints uint64 [ops, rows], contiguous. ValueError where they do not fit.
    """
    kind = outputs[0].dtype
    code = CODES.get(kind)
    rows = prints.shape[1]
    for x in outputs:
        if x.dtype is not kind or x.ndim != 2 or len(x) != rows or not x.flags.c_contiguous:
            code = None
    if code is None:
        for x, index in zip(outputs, indices, strict=True):
            fingerprint(x, prints[index])
        return
    # an output twice costs a copy onto itself
    missing = TOGETHER - len(outputs)
    if missing:
        outputs, indices = [*outputs, *outputs[-1:] * missing], [*indices, *indices[-1:] * missing]
    _together(code, prints, tuple(indices), *outputs)

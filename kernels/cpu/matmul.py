"""Matmul on the CPU: the same bits for a row in any batch, on any number of threads and any x86.

Invariant: an element of y = x @ W^T + bias is one FMA chain over k = 0..K-1 from 0.0 in float32, then one
addition of the bias, then one rounding to the dtype of the output. That is also what
`tl.dot(input_precision="ieee")` computes on a GPU. Rows, panels and threads only decide which chains run at
the same time.
"""

import numpy as np
from numba import get_num_threads, prange

from detrec.kernels.cpu.compiling import compiled, shared
from detrec.kernels.cpu.microkernel import tile
from detrec.kernels.cpu.packed import PANEL, PackedWeight, pack_weight
from detrec.kernels.cpu.portable import narrow

KERNEL = "cpu.matmul fma-chain k=0..K"
"""Names the kernel and all of its configuration that could move a bit."""

# multiply-adds below which a second thread costs more than it brings
SERIAL = 1 << 18

# rows of x that stay in the second-level cache while a thread walks over its panels; a multiple of 8
ROW_BLOCK = 64

NO_BIAS = np.empty(0, np.float32)

_STORED = ("f", "H")


@compiled
def _ragged(
    x: np.ndarray, panels: np.ndarray, start: int, stop: int, leaves: int, bias: np.ndarray, out: np.ndarray,
    panel: int, top: int, bottom: int,
) -> None:  # fmt: skip
    """Rows [top, bottom) times a last panel that is not full: computed beside `out`, then copied."""
    line = np.empty((1, PANEL), np.float32)
    first = panel * PANEL
    for row in range(top, bottom):
        tile(x, row, 1, panels, panel, 1, start, stop, leaves, bias[:0], line, 0, 0)
        for j in range(out.shape[1] - first):
            value = line[0, j]
            out[row, first + j] = narrow(value + bias[first + j] if bias.size else value, out)


@compiled
def _block(
    x: np.ndarray, panels: np.ndarray, start: int, stop: int, leaves: int, bias: np.ndarray, out: np.ndarray,
    first: int, last: int, top: int, bottom: int,
) -> None:  # fmt: skip
    """Rows [top, bottom) times panels [first, last); 8 divides bottom - top, or bottom is the last row."""
    panel = first
    full = min(last, out.shape[1] // PANEL)
    if bottom - top == 1:
        while panel + 4 <= full:
            tile(x, top, 1, panels, panel, 4, start, stop, leaves, bias, out, top, panel * PANEL)
            panel += 4
    while panel < full:
        row, column = top, panel * PANEL
        while row + 4 < bottom:
            tile(x, row, 8, panels, panel, 1, start, stop, leaves, bias, out, row, column)
            row += 8
        if row + 2 < bottom:
            tile(x, row, 4, panels, panel, 1, start, stop, leaves, bias, out, row, column)
        elif row + 1 < bottom:
            tile(x, row, 2, panels, panel, 1, start, stop, leaves, bias, out, row, column)
        elif row < bottom:
            tile(x, row, 1, panels, panel, 1, start, stop, leaves, bias, out, row, column)
        panel += 1
    if panel < last:
        _ragged(x, panels, start, stop, leaves, bias, out, panel, top, bottom)


@compiled
def _work(
    x: np.ndarray, panels: np.ndarray, start: int, stop: int, leaves: int, bias: np.ndarray, out: np.ndarray,
    first: int, last: int, height: int,
) -> None:  # fmt: skip
    """Units [first, last) of the work: a unit is a panel for `height` rows; all panels, then more rows."""
    count, rows = panels.shape[0], x.shape[0]
    unit = first
    while unit < last:
        group, panel = divmod(unit, count)
        until = min(count, panel + last - unit)
        bottom = min((group + 1) * height, rows)
        for top in range(group * height, bottom, ROW_BLOCK):
            _block(x, panels, start, stop, leaves, bias, out, panel, until, top, min(top + ROW_BLOCK, bottom))
        unit += until - panel


@shared
def _parallel(
    x: np.ndarray, panels: np.ndarray, start: int, stop: int, leaves: int, bias: np.ndarray, out: np.ndarray,
    threads: int,
) -> None:  # fmt: skip
    """All of the work, an equal share of units to each thread."""
    count, rows = panels.shape[0], x.shape[0]
    groups = 1
    # few panels for many threads: cut the rows too
    while count * groups < 4 * threads and rows > groups * ROW_BLOCK:
        groups *= 2
    height = (rows + groups * 8 - 1) // (groups * 8) * 8
    units = count * ((rows + height - 1) // height)
    for thread in prange(threads):
        first, last = units * thread // threads, units * (thread + 1) // threads
        _work(x, panels, start, stop, leaves, bias, out, first, last, height)


def multiply(
    x: np.ndarray, weight: PackedWeight, bias: np.ndarray | None, out: np.ndarray, start: int, stop: int,
    leaves: int = 1,
) -> np.ndarray:  # fmt: skip
    """`matmul` over k in [start, stop) only, cut into leaves (`matmul_leaves`)."""
    rows, depth = x.shape
    columns = weight.shape[0]
    if depth != weight.shape[1] or out.shape != (rows, columns):
        raise ValueError(f"matmul: x {x.shape} and weight {weight.shape} do not give out {out.shape}")
    if x.dtype.char not in _STORED or out.dtype.char not in _STORED:
        raise ValueError(
            f"matmul: x is {x.dtype}, out {out.dtype}, expected float32 or uint16 (bfloat16 bits)"
        )
    for name, array in (("x", x), ("out", out)):
        if not array.flags.c_contiguous and array.strides[1] != array.itemsize:
            raise ValueError(f"matmul: a row of {name} is not contiguous, its strides are {array.strides}")
    if bias is None:
        bias = NO_BIAS
    elif bias.shape != (columns,) or bias.dtype.char != "f":
        raise ValueError(f"matmul: bias is {bias.dtype} {bias.shape}, weight needs float32 ({columns},)")
    if not rows:
        return out
    panels = weight.panels
    if rows * columns * (stop - start) < SERIAL:
        _work(x, panels, start, stop, leaves, bias, out, 0, len(panels), (rows + 7) // 8 * 8)
    else:
        _parallel(x, panels, start, stop, leaves, bias, out, get_num_threads())
    return out


def matmul(x: np.ndarray, weight: PackedWeight, bias: np.ndarray | None, out: np.ndarray) -> np.ndarray:
    """out = x @ W^T + bias; gives `out` back.

    x [R, K] and out [R, N], a row contiguous, rows at any stride; weight (N, K); bias float32 [N] or None. x,
    weight and out are each float32 or uint16 (bfloat16 bits). ValueError where shapes or dtypes do not fit.
    """
    return multiply(x, weight, bias, out, 0, weight.shape[1])


def addmm(bias: np.ndarray, x: np.ndarray, weight: PackedWeight, out: np.ndarray) -> np.ndarray:
    """out = bias + x @ W^T: `matmul` with a bias that must be given."""
    return matmul(x, weight, bias, out)


def bmm(x: np.ndarray, w: np.ndarray, out: np.ndarray) -> np.ndarray:
    """out[b] = x[b] @ w[b] for x [B, M, K], w [B, K, N], out [B, M, N]: a `matmul` each, w packed for it."""
    if x.ndim != 3 or w.ndim != 3 or out.ndim != 3 or not len(x) == len(w) == len(out):
        raise ValueError(f"bmm: x {x.shape} and w {w.shape} do not give out {out.shape}")
    for one, weight, place in zip(x, w, out, strict=True):
        matmul(one, pack_weight(weight.T), None, place)
    return out

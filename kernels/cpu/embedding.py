"""Rows of a packed weight by token id: a model whose embedding is tied to its output layer stores one table.

Copies and widens: no arithmetic, so nothing to round. Of a table that is cut over ranks each gives its own
rows and -0.0 for the others': -0.0 + x is x, bit for bit, which cannot be said of 0.0.
"""

import numpy as np

from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.cpu.packed import PANEL, PackedWeight
from detrec.kernels.cpu.portable import narrow, widen

KERNEL = "cpu.embedding gather"
"""Names the kernel and all of its configuration that could move a bit."""

_NOTHING = np.float32(-0.0)


@compiled
def _gather(tokens: np.ndarray, first: int, last: int, panels: np.ndarray, out: np.ndarray) -> None:
    for row in range(tokens.shape[0]):
        if first <= tokens[row] < last:
            panel, column = divmod(tokens[row] - first, PANEL)
            for k in range(panels.shape[1]):
                out[row, k] = narrow(widen(panels[panel, k, column]), out)
        else:
            for k in range(panels.shape[1]):
                out[row, k] = narrow(_NOTHING, out)


def embedding(tokens: np.ndarray, weight: PackedWeight, out: np.ndarray) -> np.ndarray:
    """out[r] = W[tokens[r]]; gives `out` back.

    tokens int64 [R], each in [0, N); weight (N, K); out [R, K], float32 or uint16 (bfloat16 bits). ValueError
    where shapes do not fit or a token is not in the table.
    """
    _expect(tokens, weight, out)
    if not len(tokens):
        return out
    rows = weight.shape[0]
    if tokens.min() < 0 or tokens.max() >= rows:
        raise ValueError(f"embedding: token ids {tokens.min()} to {tokens.max()}, the table has {rows} rows")
    _gather(tokens, 0, rows, weight.panels, out)
    return out


def embedding_part(tokens: np.ndarray, weight: PackedWeight, first: int, out: np.ndarray) -> np.ndarray:
    """`embedding` of a table of which `weight` has rows [first, first + N); -0.0 for all other tokens.

    The sum over the ranks that have the parts, in any order, is the row of the whole table.
    """
    _expect(tokens, weight, out)
    _gather(tokens, first, first + weight.shape[0], weight.panels, out)
    return out


def _expect(tokens: np.ndarray, weight: PackedWeight, out: np.ndarray) -> None:
    depth = weight.shape[1]
    if tokens.ndim != 1 or out.shape != (len(tokens), depth):
        raise ValueError(
            f"embedding: tokens {tokens.shape} and weight {weight.shape} do not give out {out.shape}"
        )

"""Rows of a packed weight by token id: a model whose embedding is tied to its output layer stores one table.

Copies and widens: no arithmetic, so nothing to round.
"""

import numpy as np

from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.cpu.packed import PANEL, PackedWeight
from detrec.kernels.cpu.portable import narrow, widen

KERNEL = "cpu.embedding gather"
"""Names the kernel and all of its configuration that could move a bit."""


@compiled
def _gather(tokens: np.ndarray, panels: np.ndarray, out: np.ndarray) -> None:
    for row in range(tokens.shape[0]):
        panel, column = divmod(tokens[row], PANEL)
        for k in range(panels.shape[1]):
            out[row, k] = narrow(widen(panels[panel, k, column]), out)


def embedding(tokens: np.ndarray, weight: PackedWeight, out: np.ndarray) -> np.ndarray:
    """out[r] = W[tokens[r]]; gives `out` back.

    tokens int64 [R], each in [0, N); weight (N, K); out [R, K], float32 or uint16 (bfloat16 bits). ValueError
    where shapes do not fit or a token is not in the table.
    """
    rows, depth = weight.shape
    if tokens.ndim != 1 or out.shape != (len(tokens), depth):
        raise ValueError(
            f"embedding: tokens {tokens.shape} and weight {weight.shape} do not give out {out.shape}"
        )
    if not len(tokens):
        return out
    if tokens.min() < 0 or tokens.max() >= rows:
        raise ValueError(f"embedding: token ids {tokens.min()} to {tokens.max()}, the table has {rows} rows")
    _gather(tokens, weight.panels, out)
    return out

"""A weight laid out for the CPU matmul: column panels, so that the loop over k reads one stream."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

PANEL = 32
"""Columns of a panel. It decides where a weight lies in memory, never a bit of the result."""

Alloc = Callable[[tuple[int, ...], np.dtype], np.ndarray]
"""Gives an array of a shape and dtype, with whatever was in memory."""


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A weight W of shape (N, K), for y = x @ W^T.

    `panels` has shape [ceil(N / PANEL), K, PANEL]: panels[p, k, j] is W[p * PANEL + j, k], and zero where
    that is past N. float32, or bfloat16 as its bits in uint16.
    """

    panels: np.ndarray
    shape: tuple[int, int]

    @property
    def dtype(self) -> str:
        """ "float32" or "bfloat16"."""
        return "bfloat16" if self.panels.dtype == np.uint16 else "float32"

    def unpacked(self) -> np.ndarray:
        """A copy as [N, K], of the dtype that is stored."""
        rows, cols = self.shape
        return self.panels.transpose(0, 2, 1).reshape(-1, cols)[:rows].copy()


def pack_weight(weights: np.ndarray | Sequence[np.ndarray], alloc: Alloc = np.empty) -> PackedWeight:
    """Pack one [N, K] array, or several stacked along N as one weight (q, k and v).

    float32 or uint16 (bfloat16 bits). `alloc` owns the memory. Raises ValueError where widths or dtypes
    differ.
    """
    stack = [weights] if isinstance(weights, np.ndarray) else list(weights)
    if not stack or any(w.ndim != 2 for w in stack):
        raise ValueError(f"pack_weight: expected [N, K] arrays, got shapes {[w.shape for w in stack]}")
    kind, cols = stack[0].dtype, stack[0].shape[1]
    if any(w.dtype != kind or w.shape[1] != cols for w in stack):
        raise ValueError(f"pack_weight: stacked weights differ: {[(w.shape, w.dtype.name) for w in stack]}")
    if kind not in (np.float32, np.uint16):
        raise ValueError(f"pack_weight: dtype is {kind}, expected float32 or uint16 (bfloat16 bits)")
    rows = sum(w.shape[0] for w in stack)
    panels = alloc((-(-rows // PANEL), cols, PANEL), kind)
    done = 0
    for weight in stack:
        _fill(panels, weight, done)
        done += weight.shape[0]
    panels[-1:, :, rows - (len(panels) - 1) * PANEL :] = 0
    return PackedWeight(panels, (rows, cols))


def _fill(panels: np.ndarray, weight: np.ndarray, first: int) -> None:
    row = 0
    while row < len(weight):
        panel, column = divmod(first + row, PANEL)
        taken = min(PANEL - column, len(weight) - row)
        panels[panel, :, column : column + taken] = weight[row : row + taken].T
        row += taken

"""Memory for activations, taken from one tensor of the framework so that no op asks the framework for any.

Lifetime: an array is valid until `nbytes` bytes have been taken after it; then its memory is given out again.
"""

import math

import numpy as np
from numpy.typing import DTypeLike

from detrec.kernels import arrays

ALIGNMENT = 64

# an array as large as the promise, then a gap that was too short for another as large, must leave `nbytes`
# between
_TURNS = 3


class Workspace:
    """A ring of framework-owned CPU memory that hands out arrays at about a microsecond each."""

    def __init__(self, framework: str, nbytes: int) -> None:
        self.framework = framework
        self.nbytes = 0
        self._allocate(nbytes)

    def _allocate(self, nbytes: int) -> None:
        if nbytes <= 0:
            raise ValueError(f"workspace of {nbytes} bytes: expected a positive number")
        nbytes = -(-nbytes // ALIGNMENT) * ALIGNMENT
        self.tensor = arrays.empty(self.framework, (_TURNS * nbytes + ALIGNMENT,), "uint8")
        self._memory = arrays.prefer_huge_pages(arrays.host_view(self.tensor))
        # touched now: in a virtual machine the first write to a page was seen to cost more than the op
        self._memory[...] = 0
        self._start = -self._memory.ctypes.data % ALIGNMENT
        self._capacity = nbytes
        self._turn(nbytes)

    def _turn(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._stop = self._start + _TURNS * nbytes
        self._next = self._start

    def begin(self, nbytes: int) -> None:
        """Promise `nbytes` for what comes now; nothing handed out before is needed any more.

        Small steps then stay in little memory, which stays in the cache, however large the largest step is.
        """
        if nbytes > self._capacity:
            self._allocate(nbytes)
        else:
            self._turn(-(-nbytes // ALIGNMENT) * ALIGNMENT)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
        """An array of `shape`, 64-byte aligned, with whatever was in memory."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if size > self.nbytes:
            raise ValueError(
                f"array of shape {tuple(shape)} takes {size} bytes, the workspace promises {self.nbytes}"
            )
        start = self._next
        stop = start + (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        if stop > self._stop:
            start, stop = self._start, self._start + stop - start
        self._next = stop
        return np.ndarray(shape, kind, self._memory, start)

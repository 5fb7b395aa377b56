"""Memory for activations, taken from one tensor of the framework so that no op asks the framework for any.

Lifetime: an array is valid until `nbytes` bytes have been taken after it; then its memory is given out again.
"""

import math
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import DTypeLike

from detrec.kernels import arrays
from detrec.kernels.device_array import ITEMSIZE, DeviceArray

ALIGNMENT = 64

# an array as large as the promise, then a gap that was too short for another as large, must leave `nbytes`
# between
_TURNS = 3


class _Ring(ABC):
    """Which bytes are given out next, of memory that `_own` gets from somewhere."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = 0
        self._allocate(nbytes)

    @abstractmethod
    def _own(self, nbytes: int) -> int:
        """Replace the memory by `nbytes` of other memory; gives its address."""

    def _allocate(self, nbytes: int) -> None:
        if nbytes <= 0:
            raise ValueError(f"workspace of {nbytes} bytes: expected a positive number")
        self._capacity = _aligned(nbytes)
        address = self._own(_TURNS * self._capacity + ALIGNMENT)
        self._start = -address % ALIGNMENT
        self._turn(self._capacity)

    def _turn(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._stop = self._start + _TURNS * nbytes
        self._next = self._start

    def holds(self, nbytes: int) -> bool:
        """Whether `begin` can promise that much in the memory that is there."""
        return nbytes <= self._capacity

    def begin(self, nbytes: int) -> None:
        """Promise `nbytes` for what comes now; nothing handed out before is needed any more.

        Small steps then stay in little memory, which stays in the cache, however large the largest step is.
        """
        if nbytes > self._capacity:
            self._allocate(nbytes)
        else:
            self._turn(_aligned(nbytes))

    def _take(self, shape: tuple[int, ...], size: int) -> int:
        """Where the next `size` bytes begin."""
        if size > self.nbytes:
            raise ValueError(
                f"array of shape {tuple(shape)} takes {size} bytes, the workspace promises {self.nbytes}"
            )
        start = self._next
        stop = start + _aligned(size)
        if stop > self._stop:
            start, stop = self._start, self._start + stop - start
        self._next = stop
        return start


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


class Workspace(_Ring):
    """A ring of framework-owned CPU memory that hands out arrays at about a microsecond each."""

    def __init__(self, framework: str, nbytes: int) -> None:
        self.framework = framework
        super().__init__(nbytes)

    def _own(self, nbytes: int) -> int:
        self.tensor = arrays.empty(self.framework, (nbytes,), "uint8")
        self._memory = arrays.prefer_huge_pages(arrays.host_view(self.tensor))
        # touched now: in a virtual machine the first write to a page was seen to cost more than the op
        self._memory[...] = 0
        return int(self._memory.ctypes.data)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
        """An array of `shape`, 64-byte aligned, with whatever was in memory."""
        kind = np.dtype(dtype)
        start = self._take(shape, math.prod(shape) * kind.itemsize)
        return np.ndarray(shape, kind, self._memory, start)


class DeviceWorkspace(_Ring):
    """The same of a GPU's memory. A captured graph keeps the addresses that it was given."""

    def __init__(self, framework: str, device: str, nbytes: int) -> None:
        self.framework, self.device = framework, device
        super().__init__(nbytes)

    def _own(self, nbytes: int) -> int:
        self._memory = arrays.device_empty(self.framework, (nbytes,), "uint8", self.device)
        return self._memory.address

    def empty(self, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        """An array of `shape`, 64-byte aligned, with whatever was in memory."""
        start = self._take(shape, math.prod(shape) * ITEMSIZE[dtype])
        return DeviceArray(self._memory.address + start, dtype, shape, (), self._memory.owner)

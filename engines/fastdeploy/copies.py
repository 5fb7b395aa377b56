"""Small tensors brought to the host behind FastDeploy's own work, without anybody waiting for the GPU.

What is taken in a step may be read when the step's fingerprints have arrived: both were queued in one stream.
"""

from typing import Any, Protocol

import numpy as np

from detrec.kernels import arrays, cuda
from detrec.kernels.device import Device

# more than a DeviceProbe keeps on their way, so that no memory is written again before it was read
_STEPS = 10


class Copies(Protocol):
    """Takes copies of a step's tensors."""

    def begin(self) -> None:
        """A step begins."""
        ...

    def take(self, tensor: Any) -> np.ndarray:
        """The tensor's elements as one axis, to be read when the step has arrived."""
        ...


class HostCopies:
    """Copies of tensors that are on the host already: they can be read at once."""

    def begin(self) -> None:
        """Nothing to prepare."""

    def take(self, tensor: Any) -> np.ndarray:
        """A copy."""
        return arrays.host_view(tensor.detach()).reshape(-1).copy()


class DeviceCopies:
    """Copies to pinned memory by the stream of `device`, which must be the one that the engine works in."""

    def __init__(self, device: Device) -> None:
        self._stream = device.stream
        self._ring: list[list[np.ndarray]] = [[] for _ in range(_STEPS)]
        self._taken = 0

    def begin(self) -> None:
        """The step takes the memory of the step that is longest ago."""
        self._ring.append(self._ring.pop(0))
        self._taken = 0

    def take(self, tensor: Any) -> np.ndarray:
        """Pinned memory that will hold a copy."""
        source = arrays.device_view(tensor)
        memory = self._ring[-1]
        if self._taken == len(memory):
            memory.append(cuda.pinned(0))
        if memory[self._taken].nbytes < source.nbytes:
            # twice what is needed: page-locking memory is slow, and a batch grows by one request at a time
            memory[self._taken] = cuda.pinned(2 * source.nbytes)
        kind = np.uint16 if source.dtype == "bfloat16" else np.dtype(str(source.dtype))
        target = memory[self._taken][: source.nbytes].view(kind)
        self._taken += 1
        self._stream.copy_to_host(target, source)
        return target

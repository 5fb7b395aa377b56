"""A decoder's arrays on a GPU: weights row-major, as its matmul reads them."""

from collections.abc import Sequence

import numpy as np

from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray


class GpuPlacement:
    """Memory of the device's framework."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def vector(self, values: np.ndarray) -> DeviceArray:
        """float32 of any shape, as it is."""
        return self._device.copy(values)

    def matrix(self, parts: Sequence[np.ndarray], dtype: str) -> DeviceArray:
        """One weight [N, K] of `parts` stacked along N; float16 is rounded here."""
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return self.vector(whole.astype(np.float16) if dtype == "float16" else whole)

    def cache(self, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        """Zeros of `dtype`."""
        return self._device.zeros(shape, dtype)

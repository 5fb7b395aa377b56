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
        rows = np.cumsum([0, *map(len, parts)]).tolist()
        weight = self._device.empty((rows[-1], parts[0].shape[1]), dtype)
        for part, start, stop in zip(parts, rows, rows[1:], strict=False):
            stored = part.astype(np.float16) if dtype == "float16" else part
            self._device.write(weight[start:stop], stored)
        return weight

    def cache(self, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        """Zeros of `dtype`."""
        return self._device.zeros(shape, dtype)

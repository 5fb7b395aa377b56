"""A probe of a GPU that keeps all it is told, on the host."""

import ctypes
from dataclasses import dataclass

import numpy as np

from detrec.engines.contract.told import Told
from detrec.engines.hooks import Layout
from detrec.kernels import cuda
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.launch import INTERPRETED


@dataclass
class DeviceTold(Told):
    """Each output is waited for and copied, the step's own rows of it: bfloat16 as its bits in uint16."""

    def place(self, layout: Layout) -> None:
        """Which rows of outputs are the step's own."""
        self._layout = layout

    def op(self, name: str, output: DeviceArray, rank: int, kernel: str) -> None:
        """An op has given `output`."""
        launched, own = self._layout.of(name)
        assert len(output) == launched
        super().op(name, np.ascontiguousarray(_host(output)[own]), rank, kernel)

    def meanwhile(self) -> None:
        """Nothing is done while the device works."""


def _host(array: DeviceArray) -> np.ndarray:
    if not INTERPRETED:
        return cuda.download(array)
    # the interpreter's device is host memory
    kind = np.dtype(np.uint16 if array.dtype == "bfloat16" else array.dtype)
    return np.frombuffer(ctypes.string_at(array.address, array.nbytes), kind).reshape(array.shape).copy()

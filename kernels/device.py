"""A GPU as an engine holds it: memory that a framework owns, and the stream that all its work goes to."""

import numpy as np

from detrec.errors import EngineError
from detrec.kernels import arrays, cuda
from detrec.kernels.device_array import DeviceArray


class Device:
    """The GPU `name`, "gpu" or "gpu:1", with memory of `framework`.

    `stream` is the handle of the stream that an engine works in that has its own; None makes one. EngineError
    where there is no such GPU, with what to do about it.
    """

    def __init__(self, framework: str, name: str, stream: int | None = None) -> None:
        index = int(name.partition(":")[2] or 0)
        found = cuda.device_count()
        if index >= found:
            raise EngineError(
                f"engine.device: {name}: this machine has {found} CUDA devices that can be used",
                hint="--set engine.device=cpu runs on the CPU; detrec doctor says what is missing for a GPU",
            )
        arrays.expect_gpu(framework)
        cuda.set_device(index)
        arrays.serve_triton(framework)
        self.framework, self.name, self.index = framework, name, index
        self.stream = cuda.Stream() if stream is None else cuda.BorrowedStream(stream)

    def empty(self, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        """Memory with whatever was in it."""
        return arrays.device_empty(self.framework, shape, dtype, self.name)

    def copy(self, values: np.ndarray) -> DeviceArray:
        """A copy of `values`; uint16 is taken as the bits of bfloat16."""
        kind = "bfloat16" if values.dtype == np.uint16 else values.dtype.name
        array = self.empty(values.shape, kind)
        self.write(array, values)
        return array

    def write(self, array: DeviceArray, values: np.ndarray) -> None:
        """Copy `values` to `array`, which is contiguous and of as many bytes."""
        # from memory that is not pinned: it has been read when this returns
        self.stream.copy_to_device(array, np.ascontiguousarray(values))

    def zeros(self, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        """Memory of zeros."""
        array = self.empty(shape, dtype)
        self.stream.fill_zero(array)
        return array

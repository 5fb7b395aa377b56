"""Arrays for kernel tests: on the GPU where there is one, else in host memory that the interpreter reads.

DETREC_OWNER=paddle lets Paddle own a GPU's memory; DETREC_DIGESTS=FILE keeps a digest of every output there,
for `tests/kernels/gpu/owners.py`.
"""

import ctypes
import hashlib
import math
import os

import numpy as np

from detrec.kernels import cuda
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.launch import INTERPRETED

FLOATS = ("float32", "bfloat16", "float16")

_held: Device | None = None


def device(array: np.ndarray) -> DeviceArray:
    """A copy of `array`; uint16 is taken as the bits of bfloat16."""
    if INTERPRETED:
        # 16 bytes of alignment, as a GPU's allocator gives
        memory = np.empty(array.nbytes + 16, np.uint8)
        start = -memory.ctypes.data % 16
        own = memory[start : start + array.nbytes]
        own[...] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        kind = "bfloat16" if array.dtype == np.uint16 else array.dtype.name
        return DeviceArray(own.ctypes.data, kind, array.shape, (), memory)
    gpu = _held or use(Device(os.environ.get("DETREC_OWNER", "torch"), "gpu"))
    copy = gpu.copy(array)
    # kernels are launched in another stream
    gpu.stream.synchronize()
    return copy


def use(gpu: Device) -> Device:
    """Arrays are made on `gpu` from now on, which is given back."""
    global _held
    _held = gpu
    return gpu


def floats(values: np.ndarray, dtype: str) -> DeviceArray:
    """`values` rounded to `dtype`, one of FLOATS."""
    from detrec.engines.builtin.bfloat16 import narrowed

    if dtype == "bfloat16":
        return device(narrowed(np.asarray(values, np.float32)))
    return device(np.asarray(values, np.float32).astype(dtype))


def fresh(shape: tuple[int, ...], dtype: str) -> DeviceArray:
    """Memory in which every float is NaN and every integer -1: what a kernel leaves unwritten shows."""
    kind = np.uint16 if dtype == "bfloat16" else np.dtype(dtype)
    array = np.empty(shape, kind)
    array.reshape(-1).view(np.uint8)[...] = 0xFF
    return device(array)


def host(array: DeviceArray) -> np.ndarray:
    """A copy of a contiguous array as it is stored; bfloat16 as its bits in uint16."""
    if INTERPRETED:
        assert array.is_contiguous
        kind = np.dtype(np.uint16 if array.dtype == "bfloat16" else array.dtype)
        raw = ctypes.string_at(array.address, math.prod(array.shape) * kind.itemsize)
        return np.frombuffer(raw, kind).reshape(array.shape).copy()
    copy = cuda.download(array)
    if "DETREC_DIGESTS" in os.environ:
        test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
        with open(os.environ["DETREC_DIGESTS"], "a") as file:
            file.write(f"{hashlib.sha256(copy.tobytes()).hexdigest()} {test}\n")
    return copy


def values(array: DeviceArray) -> np.ndarray:
    """A copy of a contiguous array of floats, as float32."""
    from detrec.engines.builtin.bfloat16 import widened

    stored = host(array)
    return widened(stored) if array.dtype == "bfloat16" else stored.astype(np.float32)

"""Who owns a tensor: the one file that knows Paddle from Torch.

Every other kernel file takes arrays and asks here for memory. A framework is imported when it is first asked
for.
"""

import ctypes
import functools
import importlib
import importlib.util
import inspect
import math
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from detrec.errors import EngineError
from detrec.kernels.device_array import ITEMSIZE, DeviceArray

# the package to import, and the extra of detrec that installs it
_EXTRAS = {"paddle": "cpu", "torch": "torch"}


@functools.cache
def framework_module(framework: str) -> ModuleType:
    """The module of "paddle" or "torch"; raise EngineError where it is not installed."""
    if framework not in _EXTRAS:
        raise ValueError(f"framework is {framework!r}, expected one of {sorted(_EXTRAS)}")
    try:
        with _own_end(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No ccache found")
            return importlib.import_module(framework)
    except ImportError as error:
        if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            # a library that was interrupted inside its C code says that it cannot be had
            raise KeyboardInterrupt from error
        raise EngineError(
            f"framework {framework} cannot be imported: {error}",
            hint=f"pip install 'detrec[{_EXTRAS[framework]}]'",
        ) from error


@contextmanager
def _own_end() -> Iterator[None]:
    """Who asks this process to end is answered as before: Paddle would print a C++ traceback on stdout."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _device(framework: str, device: str) -> str:
    return device.replace("gpu", "cuda") if framework == "torch" else device


def empty(framework: str, shape: tuple[int, ...], dtype: str = "float32", device: str = "cpu") -> Any:
    """A tensor of `shape` with whatever was in memory; `device` is "cpu", "gpu" or "gpu:1".

    The framework "numpy" has CPU memory alone, for a process that must not wait for another to be imported.
    """
    if framework == "numpy":
        return np.empty(shape, np.uint16 if dtype == "bfloat16" else dtype)
    module = framework_module(framework)
    if framework == "torch":
        return module.empty(shape, dtype=getattr(module, dtype), device=_device(framework, device))
    if _names_device(module.empty):
        return module.empty(shape, dtype=dtype, device=device)
    # a Paddle older than 3.3 gives memory on the device that is set
    before = module.device.get_device()
    module.device.set_device(device)
    try:
        return module.empty(shape, dtype=dtype)
    finally:
        module.device.set_device(before)


@functools.cache
def _names_device(function: Any) -> bool:
    return "device" in inspect.signature(function).parameters


def prefer_huge_pages(view: np.ndarray) -> np.ndarray:
    """Ask the kernel for large pages under `view` before it is first written; gives `view` back.

    Fewer page faults and TLB misses where it says yes; nothing happens where it says no or is not Linux.
    """
    page = 1 << 21
    start = -(-view.ctypes.data // page) * page
    size = (view.ctypes.data + view.nbytes - start) // page * page
    if size > 0 and sys.platform == "linux":
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), 14)
    return view


def from_numpy(framework: str, array: np.ndarray, device: str = "cpu") -> Any:
    """A tensor with a copy of `array`; uint16 is taken as the bits of bfloat16."""
    kind = "bfloat16" if array.dtype == np.uint16 else array.dtype.name
    tensor = empty(framework, array.shape, kind)
    host_view(tensor)[...] = array
    return tensor if device == "cpu" else tensor.to(_device(framework, device))


def to_numpy(tensor: Any) -> np.ndarray:
    """A copy of the tensor on the host; bfloat16 comes as its bits in uint16."""
    host = tensor.detach().cpu()
    return host_view(host.contiguous()).copy()


def host_view(tensor: Any) -> np.ndarray:
    """The memory of a CPU tensor as a numpy array: no copy, writable; bfloat16 as its bits in uint16.

    The view keeps the tensor alive.
    """
    if isinstance(tensor, np.ndarray):
        return tensor
    if dtype(tensor) == "bfloat16":
        # DLPack has no numpy type for bfloat16, int16 passes
        return np.from_dlpack(tensor.view(_int16(tensor))).view(np.uint16)
    return np.from_dlpack(tensor)


def device_view(tensor: Any) -> DeviceArray:
    """The memory of a GPU's tensor as a DeviceArray, which keeps it alive: no copy, nobody waits."""
    tensor = tensor.detach()
    strides = tensor.stride() if callable(getattr(tensor, "stride", None)) else tensor.strides
    return DeviceArray(data_ptr(tensor), dtype(tensor), tuple(tensor.shape), tuple(strides), tensor)


def _int16(tensor: Any) -> Any:
    owner = type(tensor).__module__.partition(".")[0]
    return framework_module("torch").int16 if owner == "torch" else "int16"


def data_ptr(tensor: Any) -> int:
    """The address of the tensor's first element."""
    return int(tensor.data_ptr())


def dtype(tensor: Any) -> str:
    """The name of the tensor's element type: "float32", "bfloat16", "int64"."""
    return str(tensor.dtype).rpartition(".")[2]


def synchronize(framework: str, device: str = "cpu") -> None:
    """Wait until the device has done everything asked of it; nothing to wait for on a CPU."""
    if device == "cpu":
        return
    module = framework_module(framework)
    if framework == "torch":
        module.cuda.synchronize(_device(framework, device))
    else:
        module.device.synchronize(device)


def current_stream(framework: str, device: str) -> int:
    """The handle of the CUDA stream that `framework` gives its work to on `device`."""
    module = framework_module(framework)
    if framework == "torch":
        return int(module.cuda.current_stream(_device(framework, device)).cuda_stream)
    return int(module.device.current_stream(device).stream_base.cuda_stream)


def serve_triton(framework: str) -> None:
    """Let Triton, which asks torch for the current device, ask `framework`; before Triton is imported."""
    if framework == "paddle" and importlib.util.find_spec("torch") is None:
        module = framework_module("paddle")
        if not hasattr(module, "enable_compat"):
            raise EngineError(
                f"Paddle {module.__version__} cannot serve Triton, and torch is not installed",
                hint="install a Paddle that has paddle.enable_compat (3.3 or newer), or torch beside it",
            )
        module.enable_compat(scope={"triton"})


def expect_gpu(framework: str) -> None:
    """Raise EngineError unless the framework that is installed can own a GPU's memory."""
    module = framework_module(framework)
    if not (module.cuda.is_available() if framework == "torch" else module.is_compiled_with_cuda()):
        raise EngineError(
            f"engine.framework: {framework} {module.__version__} has no CUDA, which engine.device: gpu needs",
            hint=f"install a build of {framework} for CUDA, or name the other framework: torch or paddle",
        )


def device_empty(framework: str, shape: tuple[int, ...], dtype: str, device: str) -> DeviceArray:
    """Memory of the framework's on `device`, "gpu" or "gpu:1", with whatever was in it."""
    nbytes = max(math.prod(shape) * ITEMSIZE[dtype], 1)
    try:
        tensor = empty(framework, (nbytes,), "uint8", device)
    except (RuntimeError, MemoryError, SystemError) as error:
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise EngineError(
            f"{framework} cannot give {nbytes / 2**30:.2f} GiB on {device}: {why}",
            hint="lower engine.num_gpu_blocks_override or engine.max_num_seqs, or take a smaller model",
        ) from error
    return DeviceArray(data_ptr(tensor), dtype, shape, (), tensor)


def as_torch(array: DeviceArray) -> Any:
    """The torch tensor that sees the memory of `array`, which torch owns; no copy."""
    torch = framework_module("torch")
    base, size = array.owner, array.dtype.itemsize
    start = array.address - base.data_ptr()
    reach = sum((extent - 1) * stride for extent, stride in zip(array.shape, array.strides, strict=True)) + 1
    span = reach * size if array.count else 0
    flat = base[start : start + span].view(getattr(torch, array.dtype))
    return flat.as_strided(array.shape, array.strides)

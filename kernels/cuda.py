"""The CUDA runtime as far as an engine needs it: streams, events, graphs, pinned memory, copies.

Framework-neutral: Paddle and PyTorch live in the same primary context, so a stream made here orders the work
of either. Every call that can make the host wait is counted, so that a test can prove that recording adds
none.
"""

import ctypes
import functools
import threading
import weakref
from types import ModuleType
from typing import Any

import numpy as np

from detrec.errors import EngineError
from detrec.kernels.device_array import DeviceArray

_counts = threading.local()


def waits() -> int:
    """How often this thread has waited for the device, in calls of this module."""
    return getattr(_counts, "waits", 0)


def _count_wait() -> None:
    _counts.waits = waits() + 1


@functools.cache
def _runtime() -> ModuleType:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise EngineError(
            f"the CUDA runtime cannot be imported: {error}", hint="pip install 'detrec[gpu]'"
        ) from error
    return runtime


def _call(name: str, *args: Any) -> Any:
    """A runtime call; raises EngineError with CUDA's own words where it fails."""
    runtime = _runtime()
    status, *results = getattr(runtime, name)(*args)
    if int(status):
        _, text = runtime.cudaGetErrorString(status)
        raise EngineError(f"{name}: {text.decode()}", hint="detrec doctor says what this machine can run")
    return results[0] if results else None


def _free_with(owner: Any, call: str, handle: Any) -> None:
    """Give `handle` back to CUDA when nothing needs `owner` any more; at exit CUDA does so by itself."""
    weakref.finalize(owner, getattr(_runtime(), call), handle).atexit = False


def device_count() -> int:
    """How many CUDA devices there are; 0 where there is no driver or no runtime."""
    try:
        return int(_call("cudaGetDeviceCount"))
    except EngineError:
        return 0


def why_none() -> str:
    """Why `device_count` is 0, and what to do about it."""
    try:
        _call("cudaGetDeviceCount")
    except EngineError as error:
        return f"{error} ({error.hint})" if "import" in str(error) else str(error)
    return "the driver finds no device"


def describe(index: int) -> dict[str, str]:
    """What of device `index` can change bits: its model, compute capability, driver and runtime."""
    about = _call("cudaGetDeviceProperties", index)
    return {
        "name": about.name.rstrip(b"\0").decode(),
        "capability": f"{about.major}.{about.minor}",
        "driver": str(driver_version()),
        "runtime": str(_call("cudaRuntimeGetVersion")),
    }


def driver_version() -> int:
    """The newest CUDA that the driver supports: 12080 for 12.8."""
    return int(_call("cudaDriverGetVersion"))


def set_device(index: int) -> None:
    """Make device `index` the one that this thread uses."""
    _call("cudaSetDevice", index)


def synchronize() -> None:
    """Wait for all work on the device."""
    _count_wait()
    _call("cudaDeviceSynchronize")


class Stream:
    """A queue of work. It does not wait for the default stream, nor the default stream for it."""

    def __init__(self) -> None:
        self._stream = _call("cudaStreamCreateWithFlags", _runtime().cudaStreamNonBlocking)
        _free_with(self, "cudaStreamDestroy", self._stream)
        self.handle = int(self._stream)

    def wait_for(self, event: "Event") -> None:
        """Work given from now on starts after `event`: the device waits, not the host."""
        _call("cudaStreamWaitEvent", self._stream, event.raw, 0)

    def synchronize(self) -> None:
        """The host waits until the queue is empty."""
        _count_wait()
        _call("cudaStreamSynchronize", self._stream)

    def copy_to_device(self, target: DeviceArray, source: np.ndarray) -> None:
        """Queue a copy of contiguous `source`, which must be pinned to be asynchronous, to `target`."""
        _check(target, source)
        if target.count:
            kind = _runtime().cudaMemcpyKind.cudaMemcpyHostToDevice
            _call("cudaMemcpyAsync", target.address, source.ctypes.data, source.nbytes, kind, self._stream)

    def copy_to_host(self, target: np.ndarray, source: DeviceArray) -> None:
        """Queue a copy of contiguous `source` to `target`, which must be pinned to be asynchronous."""
        _check(source, target)
        if source.count:
            kind = _runtime().cudaMemcpyKind.cudaMemcpyDeviceToHost
            _call("cudaMemcpyAsync", target.ctypes.data, source.address, target.nbytes, kind, self._stream)

    def fill_zero(self, target: DeviceArray) -> None:
        """Queue zeroing contiguous `target`."""
        if target.count:
            _call("cudaMemsetAsync", target.address, 0, target.nbytes, self._stream)

    def begin_capture(self) -> None:
        """Work given from now on is not run but kept as a graph."""
        mode = _runtime().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _call("cudaStreamBeginCapture", self._stream, mode)

    def end_capture(self) -> "Graph":
        """The graph of the work given since `begin_capture`."""
        return Graph(_call("cudaStreamEndCapture", self._stream))

    def run(self, graph: "Graph") -> None:
        """Queue all work of `graph`."""
        _call("cudaGraphLaunch", graph.executable, self._stream)


class BorrowedStream(Stream):
    """A stream that somebody else made and keeps, by its handle; 0 is the default stream."""

    def __init__(self, handle: int) -> None:
        self._stream = _runtime().cudaStream_t(handle)
        self.handle = handle


class Event:
    """A mark in a stream."""

    def __init__(self) -> None:
        self.raw = _call("cudaEventCreateWithFlags", _runtime().cudaEventDisableTiming)
        _free_with(self, "cudaEventDestroy", self.raw)

    def record(self, stream: Stream) -> None:
        """Set the mark behind the work queued so far."""
        _call("cudaEventRecord", self.raw, stream._stream)

    def done(self) -> bool:
        """Whether the work before the mark is done; nobody waits."""
        status = int(_runtime().cudaEventQuery(self.raw)[0])
        if status and status != int(_runtime().cudaError_t.cudaErrorNotReady):
            _call("cudaEventSynchronize", self.raw)
        return not status

    def wait(self) -> None:
        """The host waits until the work before the mark is done."""
        _count_wait()
        _call("cudaEventSynchronize", self.raw)


class Graph:
    """Captured work, ready to be run again and again."""

    def __init__(self, graph: Any) -> None:
        self.executable = _call("cudaGraphInstantiate", graph, 0)
        _free_with(self, "cudaGraphExecDestroy", self.executable)
        _free_with(self, "cudaGraphDestroy", graph)


def _check(array: DeviceArray, host: np.ndarray) -> None:
    if not array.is_contiguous or not host.flags.c_contiguous or array.nbytes != host.nbytes:
        raise ValueError(
            f"copy between {array!r} and {host.dtype} {list(host.shape)}: "
            "expected contiguous memory of equal size"
        )


def pinned(nbytes: int) -> np.ndarray:
    """Page-locked host memory, uint8 [nbytes], with whatever was in it."""
    address = int(_call("cudaHostAlloc", max(nbytes, 1), 0))
    memory = (ctypes.c_uint8 * nbytes).from_address(address)
    # every view of it keeps `memory` alive
    _free_with(memory, "cudaFreeHost", address)
    return np.frombuffer(memoryview(memory), np.uint8)


def allocate(nbytes: int) -> int:
    """The address of new memory of the current device that is no framework's."""
    return int(_call("cudaMalloc", nbytes))


def free(address: int) -> None:
    """Give back what `allocate` gave."""
    _call("cudaFree", address)


def fill(address: int, byte: int, nbytes: int) -> None:
    """Set every byte, on the default stream."""
    _call("cudaMemset", address, byte, nbytes)


def share(address: int) -> bytes:
    """A handle by which another process can reach memory that `allocate` gave."""
    return bytes(_call("cudaIpcGetMemHandle", address).reserved)


def open_shared(handle: bytes) -> int:
    """The address, in this process and for the current device, of another process's shared memory."""
    opaque = _runtime().cudaIpcMemHandle_t()
    opaque.reserved = handle
    return int(_call("cudaIpcOpenMemHandle", opaque, _runtime().cudaIpcMemLazyEnablePeerAccess))


def close_shared(address: int) -> None:
    """Close what `open_shared` gave."""
    _call("cudaIpcCloseMemHandle", address)


def download(array: DeviceArray) -> np.ndarray:
    """A copy on the host of a contiguous array; bfloat16 comes as its bits in uint16. The host waits."""
    host = np.empty(array.shape, np.uint16 if array.dtype == "bfloat16" else array.dtype)
    stream = Stream()
    synchronize()
    stream.copy_to_host(host, array)
    stream.synchronize()
    return host

"""A GPU made of host memory and the interpreter: what drives a GPU is tested where there is none.

Work is done when it is given. A captured graph is the list of kernel launches and of memory set to zero, done
again at every run, so that a wrong address or a stale padding row shows as it would on a GPU.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from triton.runtime.interpreter import InterpretedFunction

from detrec.kernels import arrays, cuda
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray


class HostStream:
    """What `cuda.Stream` does, at once."""

    handle = 0
    captured: list[Callable[[], Any]] | None = None

    def wait_for(self, event: Any) -> None:
        pass

    def synchronize(self) -> None:
        cuda._count_wait()

    def copy_to_device(self, target: DeviceArray, source: np.ndarray) -> None:
        cuda._check(target, source)
        ctypes.memmove(target.address, source.ctypes.data, source.nbytes)

    def copy_to_host(self, target: np.ndarray, source: DeviceArray) -> None:
        cuda._check(source, target)
        ctypes.memmove(target.ctypes.data, source.address, target.nbytes)

    def fill_zero(self, target: DeviceArray) -> None:
        self.give(lambda: ctypes.memset(target.address, 0, target.nbytes))

    def begin_capture(self) -> None:
        HostStream.captured = []

    def end_capture(self) -> list[Callable[[], Any]]:
        graph, HostStream.captured = HostStream.captured, None
        assert graph is not None
        return graph

    def run(self, graph: list[Callable[[], Any]]) -> None:
        for work in graph:
            work()

    @classmethod
    def give(cls, work: Callable[[], Any]) -> None:
        """Do it, or keep it for the graph."""
        if cls.captured is None:
            work()
        else:
            cls.captured.append(work)


class HostEvent:
    """What `cuda.Event` does, when nothing is ever under way."""

    def record(self, stream: Any) -> None:
        pass

    def done(self) -> bool:
        return True

    def wait(self) -> None:
        cuda._count_wait()


class HostDevice(Device):
    """A Device whose memory is the host's and full of 0xFF: what is read before it was written shows."""

    def __init__(self, framework: str, name: str) -> None:
        self.framework, self.name, self.index, self.stream = framework, "cpu", 0, HostStream()

    def empty(self, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        return arrays.device_empty(self.framework, shape, dtype, "cpu")


@contextmanager
def host_gpu() -> Iterator[None]:
    """Inside, `device: gpu` is the host."""
    run = InterpretedFunction.run

    def given(self: Any, *args: Any, **options: Any) -> None:
        HostStream.give(lambda: run(self, *args, **options))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("detrec.engines.builtin.gpu_runner.Device", HostDevice)
        patch.setattr("detrec.kernels.cuda.Stream", HostStream)
        patch.setattr("detrec.kernels.cuda.Event", HostEvent)
        patch.setattr("detrec.kernels.cuda.pinned", lambda nbytes: np.zeros(nbytes, np.uint8))
        patch.setattr("detrec.kernels.cuda.describe", lambda index: {"name": "host"})
        patch.setattr(InterpretedFunction, "run", given)
        original = arrays.device_empty

        def on_host(framework: str, shape: Any, dtype: str, device: str) -> DeviceArray:
            array = original(framework, shape, dtype, "cpu")
            ctypes.memset(array.address, 0xFF, array.nbytes)
            return array

        patch.setattr(arrays, "device_empty", on_host)
        yield

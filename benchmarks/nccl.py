"""NCCL as a Group, for comparison alone: nothing but benchmarks may sum over ranks by it."""

import ctypes

from detrec.errors import EngineError
from detrec.kernels import launch
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.device_group import DeviceGroup
from detrec.kernels.rendezvous import Rendezvous

_CODES = {"float16": 6, "float32": 7, "bfloat16": 9}
_SUM = 0


class _UniqueId(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_byte * 128),)


class NcclGroup(DeviceGroup):
    """A DeviceGroup whose sums are NCCL's, in whatever order it likes."""

    def __init__(
        self, meeting: Rendezvous, device: Device, max_bytes: int, time_limit_s: float = 5.0
    ) -> None:
        super().__init__(meeting, device, max_bytes, time_limit_s)
        # torch has loaded it
        self._nccl = ctypes.CDLL("libnccl.so.2")
        unique = _UniqueId()
        if self.rank == 0:
            self._ask("ncclGetUniqueId", ctypes.byref(unique))
        told = meeting.exchange(bytes(unique))[0]
        self._comm = ctypes.c_void_p()
        self._ask(
            "ncclCommInitRank",
            *(ctypes.byref(self._comm), self.world_size, _UniqueId.from_buffer_copy(told), self.rank),
        )

    def _ask(self, name: str, *args: object) -> None:
        if status := getattr(self._nccl, name)(*args):
            raise EngineError(f"{name}: {status}")

    def all_reduce(self, x: DeviceArray, out: DeviceArray, *, order: str = "ranks") -> DeviceArray:
        """The sum of every rank's x; gives `out`. `order` is not asked for."""
        self._ask(
            "ncclAllReduce",
            *(ctypes.c_void_p(x.address), ctypes.c_void_p(out.address), ctypes.c_size_t(x.count)),
            *(_CODES[x.dtype], _SUM, self._comm, ctypes.c_void_p(launch._stream)),
        )
        return out

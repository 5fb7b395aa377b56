"""The ranks of one host as their GPUs see each other: sums and gathers that a CUDA graph may hold."""

import numpy as np

from detrec.errors import EngineError, RankLost
from detrec.kernels import cuda
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu import all_reduce as reducing
from detrec.kernels.group import ORDERS
from detrec.kernels.peer_memory import PeerMemory
from detrec.kernels.rendezvous import Rendezvous

FLOATS = ("float32", "bfloat16", "float16")


class DeviceGroup:
    """Rank `rank` of `world_size`, each a process with a GPU; several may have one GPU.

    All ranks make it, with the same `max_bytes`: the most that a sum takes in. A rank that does not hear from
    another for `time_limit_s` gives up: its kernels return at once from then on, and `check` raises.
    """

    def __init__(
        self, rendezvous: Rendezvous, device: Device, max_bytes: int, time_limit_s: float = 5.0
    ) -> None:
        if max_bytes <= 0:
            raise ValueError(f"a group for sums of {max_bytes} bytes: expected a positive number")
        self.rank, self.world_size = rendezvous.rank, rendezvous.world_size
        self.max_bytes, self._device = max_bytes, device
        self._told = cuda.pinned(8).view(np.int64)
        self._told[0] = 0
        self._control = device.zeros((reducing.CONTROL_WORDS,), "int64")
        self._memory: PeerMemory | None = None
        self._links: reducing.Links | None = None
        if self.world_size > 1:
            self._meet(rendezvous)
        self._limit(time_limit_s)
        # nobody writes to memory that is not EMPTY yet
        rendezvous.barrier()

    def _meet(self, rendezvous: Rendezvous) -> None:
        world = self.world_size
        one_cap = reducing.cap_of(min(self.max_bytes, reducing.ONE_STAGE_BYTES[world]))
        one_bytes = reducing.staging_bytes(one_cap, world)
        two_cap = two_bytes = 0
        if self.max_bytes > reducing.ONE_STAGE_BYTES[world]:
            two_cap = reducing.cap_of(-(-min(self.max_bytes, reducing.TWO_STAGE_BYTES) // world))
            # what is to be summed, and sums
            two_bytes = reducing.staging_bytes(two_cap, 2 * world)
        self._memory = PeerMemory(rendezvous, one_bytes + two_bytes)
        addresses = self._memory.addresses
        turns = self._control[reducing.TURNS :]
        one, two = turns[: 2 * reducing.BLOCKS], turns[2 * reducing.BLOCKS :]
        second = tuple(address + one_bytes for address in addresses)
        self._links = reducing.Links(
            self.rank,
            world,
            self._control,
            reducing.Staging(tuple(addresses), self.rank, one_cap, one),
            reducing.Staging(second, self.rank, two_cap, two) if two_cap else None,
        )

    def _limit(self, seconds: float) -> None:
        self.time_limit_s = seconds
        words = np.zeros(reducing.TURNS, np.int64)
        words[reducing.LIMIT] = int(seconds * 1e9)
        words[reducing.TOLD] = self._told.ctypes.data
        words[reducing.RANK] = self.rank
        self._device.write(self._control[: reducing.TURNS], words)
        self._device.stream.synchronize()

    def all_reduce(self, x: DeviceArray, out: DeviceArray, *, order: str = "ranks") -> DeviceArray:
        """The sum of every rank's x, in float32 and rounded once; gives `out`. Queued on the current stream.

        x float32, bfloat16 or float16 of any shape, contiguous; out of as many elements, of x's dtype or,
        where x is float32, of any of the three; it must not overlap x. `order`: "ranks", added 0..n-1, or
        "tree", ((0+1)+(2+3))+... All ranks call in the same order with equal shapes. EngineError for what it
        cannot sum.
        """
        links = self._joined("all_reduce")
        if order not in ORDERS:
            raise EngineError(f"all_reduce: order is {order!r}, expected one of {', '.join(ORDERS)}")
        _expect_floats("all_reduce", x, out)
        if x.count != out.count:
            raise EngineError(
                f"all_reduce: x is {list(x.shape)} and out {list(out.shape)}, expected as many elements"
            )
        if out.dtype != x.dtype and x.dtype != "float32":
            raise EngineError(f"all_reduce: x is {x.dtype} and out {out.dtype}, expected one dtype")
        if x.nbytes > self.max_bytes:
            raise EngineError(
                f"all_reduce: {x.nbytes} bytes, the group was made for {self.max_bytes}",
                hint="engine.max_num_batched_tokens bounds what a step sums",
            )
        if x.address < out.address + out.nbytes and out.address < x.address + x.nbytes:
            raise EngineError("all_reduce: out overlaps x, expected memory of its own")
        return reducing.all_reduce(x, out, links, order)

    def all_gather(self, x: DeviceArray, out: DeviceArray) -> DeviceArray:
        """Every rank's columns side by side, in rank order; gives `out`. Queued on the current stream.

        x [R, C] and out [R, up to ranks x C] of one of the three dtypes, contiguous; what is past out's last
        column is left out. EngineError where they are not.
        """
        links = self._joined("all_gather")
        _expect_floats("all_gather", x, out)
        if x.ndim != 2 or out.ndim != 2 or len(x) != len(out) or x.dtype != out.dtype:
            raise EngineError(
                f"all_gather: x is {x.dtype} {list(x.shape)} and out {out.dtype} {list(out.shape)}, "
                "expected as many rows of one dtype"
            )
        if out.shape[1] > self.world_size * x.shape[1]:
            raise EngineError(
                f"all_gather: {self.world_size} ranks of {x.shape[1]} columns do not fill {out.shape[1]}"
            )
        return reducing.all_gather(x, out, links)

    def _joined(self, work: str) -> reducing.Links:
        if self._links is None:
            why = "is closed" if self.world_size > 1 else "has one rank, which has no one to hear"
            raise EngineError(f"{work}: the group {why}")
        return self._links

    def check(self) -> None:
        """Raise EngineError where a rank was not heard in time, once the host has waited for the kernels."""
        source = int(self._told[0])
        if source:
            raise RankLost(
                f"rank {self.rank}: nothing came from rank {source - 1} for {self.time_limit_s:g} s",
                hint="is it stopped, or its GPU busy with something else?",
            )

    def give_up(self) -> None:
        """Let the kernels that wait, and all later ones, return at once: a rank is known to be gone."""
        stream = cuda.Stream()
        stream.copy_to_device(self._control[:1], np.ones(1, np.int64))
        stream.synchronize()

    def close(self) -> None:
        """Give the memory back, once no rank uses it: all must call."""
        self._links = None
        if self._memory is not None:
            self._memory.close()
            self._memory = None


def _expect_floats(work: str, x: DeviceArray, out: DeviceArray) -> None:
    for name, array in (("x", x), ("out", out)):
        if array.dtype not in FLOATS:
            raise EngineError(f"{work}: {name} is {array.dtype}, expected one of {', '.join(FLOATS)}")
        if not array.is_contiguous:
            raise EngineError(f"{work}: {name} is not contiguous: strides {list(array.strides)}")

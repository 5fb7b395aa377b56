"""The ranks of one host as their GPUs see each other: sums and gathers that a CUDA graph may hold."""

import threading
from contextlib import suppress
from dataclasses import replace

import numpy as np

from detrec.errors import EngineError, RankLost
from detrec.kernels import cuda
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu import all_reduce as reducing
from detrec.kernels.gpu import staging as laid
from detrec.kernels.gpu.rank_words import UNIT
from detrec.kernels.group import ORDERS
from detrec.kernels.peer_memory import PeerMemory
from detrec.kernels.rendezvous import Rendezvous

FLOATS = ("float32", "bfloat16", "float16")

_LOOK_S = 0.2


class DeviceGroup:
    """Rank `rank` of `world_size`, 2 to 8, each a process with a GPU; several may have one GPU.

    All ranks make it, with the same `max_bytes`: the most that a sum takes in. A rank that does not hear from
    another for `time_limit_s`, or sees one die at the `meeting`, gives up: its kernels return at once from
    then on, and `check` raises.
    """

    def __init__(
        self, meeting: Rendezvous, device: Device, max_bytes: int, time_limit_s: float = 5.0
    ) -> None:
        if max_bytes <= 0 or meeting.world_size < 2:
            raise ValueError(
                f"a group of {meeting.world_size} for sums of {max_bytes} bytes: expected 2 ranks or more, "
                "and a positive number"
            )
        self.rank, self.world_size = meeting.rank, meeting.world_size
        self.max_bytes, self.time_limit_s = max_bytes, time_limit_s
        self._meeting, self._device = meeting, device
        self._told = cuda.pinned(8).view(np.int64)
        self._control = device.zeros((laid.CONTROL_WORDS,), "int64")
        self._tell_kernels()
        cap = laid.cap_of(min(max_bytes, laid.ONE_STAGE_BYTES[self.world_size]))
        self._memory: list[PeerMemory] = []
        self._links: laid.Links | None = laid.Links(
            self.rank, self.world_size, self._control, self._staging(cap, self.world_size, 0), None
        )
        self.reserve(max_bytes)
        self._watch = _Watch(meeting, device, self._control)

    def _tell_kernels(self) -> None:
        self._told[0] = 0
        words = np.zeros(laid.TURNS, np.int64)
        words[laid.LIMIT] = int(self.time_limit_s * 1e9)
        words[laid.TOLD] = self._told.ctypes.data
        words[laid.RANK] = self.rank
        self._device.write(self._control[: laid.TURNS], words)
        self._device.stream.synchronize()

    def _staging(self, cap: int, sources: int, kernel: int) -> laid.Staging:
        """New memory of all ranks for each other, for the `kernel` of one stage, 0, or of two, 1."""
        memory = PeerMemory(self._meeting, laid.staging_bytes(cap, sources))
        self._memory.append(memory)
        turns = self._control[laid.TURNS :][kernel * 2 * laid.BLOCKS :][: 2 * laid.BLOCKS]
        return laid.Staging(tuple(memory.addresses), self.rank, cap, turns)

    def reserve(self, nbytes: int) -> None:
        """Sums of up to `nbytes` bytes from now on. All ranks must call it with the same number."""
        self.max_bytes = max(self.max_bytes, nbytes)
        links = self._joined("reserve")
        if links.two is None and self.max_bytes > links.one.units * UNIT:
            # what is to be summed, and sums; more than one launch takes is summed in several
            share = -(-min(self.max_bytes, laid.TWO_STAGE_BYTES) // self.world_size)
            self._links = replace(links, two=self._staging(laid.cap_of(share), 2 * self.world_size, kernel=1))

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
        if x.nbytes > self.max_bytes or x.count >= 1 << 31:
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

    def _joined(self, work: str) -> laid.Links:
        if self._links is None:
            raise EngineError(f"{work}: the group is closed")
        return self._links

    def check(self) -> None:
        """Raise RankLost where a rank died or was not heard in time; the host has waited for the kernels."""
        if self._watch.lost:
            raise self._watch.lost
        source = int(self._told[0])
        if source:
            raise RankLost(
                f"rank {self.rank}: nothing came from rank {source - 1} for {self.time_limit_s:g} s",
                hint="is it stopped, or its GPU busy with something else?",
            )

    def leave(self) -> None:
        """Use it no more, for this rank ends, or the others do."""
        self._stop()
        while self._memory:
            self._memory.pop().leave()

    def close(self) -> None:
        """Give the memory back: all must call. They may make another group then."""
        self._stop()
        while self._memory:
            self._memory.pop().close()

    def _stop(self) -> None:
        self._links = None
        # kernels that wait for a rank that is gone are told so by the watch
        with suppress(EngineError):
            self._device.stream.synchronize()
        self._watch.stop()


class _Watch:
    """A thread that looks whether ranks are alive while the engine's waits for kernels that wait for them."""

    def __init__(self, meeting: Rendezvous, device: Device, control: DeviceArray) -> None:
        self.lost: EngineError | None = None
        self._about = meeting, device, control
        self._stopped = threading.Event()
        threading.Thread(target=self._look, daemon=True, name="detrec-ranks").start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _look(self) -> None:
        meeting, device, control = self._about
        while not self._stopped.wait(_LOOK_S):
            try:
                meeting.check()
            except EngineError as error:
                self.lost = error
                cuda.set_device(device.index)
                # a stream of its own: the engine's is where the kernels wait
                stream = cuda.Stream()
                stream.copy_to_device(control[:1], np.ones(1, np.int64))
                stream.synchronize()
                return


def _expect_floats(work: str, x: DeviceArray, out: DeviceArray) -> None:
    for name, array in (("x", x), ("out", out)):
        if array.dtype not in FLOATS:
            raise EngineError(f"{work}: {name} is {array.dtype}, expected one of {', '.join(FLOATS)}")
        if not array.is_contiguous:
            raise EngineError(f"{work}: {name} is not contiguous: strides {list(array.strides)}")

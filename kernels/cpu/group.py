"""The ranks of one host as a Group: each puts its message where all can read it, and reads the others'."""

import os

import numpy as np

from detrec.errors import EngineError
from detrec.kernels.cpu.all_reduce import LINE, NAPS, add_up, announce, one_stage, put, side_by_side
from detrec.kernels.cpu.atomics import reached
from detrec.kernels.group import ORDERS
from detrec.kernels.rendezvous import Rendezvous

TWO_STAGES = 1 << 16
"""From so many bytes on a rank sums a part only: decides who adds, never in which order."""

_ALIGNMENT = 64


class CpuGroup:
    """A Group of `meeting`'s ranks for messages of up to `nbytes` bytes. float32 and bfloat16 (uint16) bits.

    float16 is widened before and narrowed after by numpy, with the same roundings. All ranks must make it.
    """

    def __init__(self, meeting: Rendezvous, nbytes: int) -> None:
        self.meeting, self.rank, self.world_size = meeting, meeting.rank, meeting.world_size
        # to spin where ranks share a core keeps the one that is waited for from it
        self._spins = 20_000 if len(os.sched_getaffinity(0)) >= self.world_size else 0
        self._turns = np.arange(self.world_size, dtype=np.int64)
        self._allocate(nbytes)

    def _allocate(self, nbytes: int) -> None:
        self.nbytes = -(-nbytes // _ALIGNMENT) * _ALIGNMENT
        n, line = self.world_size, LINE * 8
        memory = self.meeting.block(n * line + (2 * n + 1) * self.nbytes)
        self._counters = memory[: n * line].view(np.int64)
        self._generation = 0
        self._half = 0
        # two halves: the next message is written while others still read this one
        slots = memory[n * line : n * line + 2 * n * self.nbytes]
        whole = memory[n * line + 2 * n * self.nbytes :]
        self._slots = {char: slots.view(char).reshape(2, n, -1) for char in "fH"}
        self._whole = {char: whole.view(char) for char in "fH"}

    def reserve(self, nbytes: int) -> None:
        """Room for messages of `nbytes` bytes from now on. All ranks must call it with the same number."""
        if nbytes > self.nbytes:
            self._allocate(nbytes)

    def all_reduce(self, x: np.ndarray, out: np.ndarray, *, order: str) -> np.ndarray:
        """Every rank's x added in `order`, in float32, and rounded once to the dtype of out; gives `out`.

        x and out of one shape, contiguous; each float32, uint16 (bfloat16 bits) or float16. EngineError where
        they are not, where they are more than the group has room for, and where a rank does not come.
        """
        if order not in ORDERS:
            raise EngineError(f"all_reduce: order is {order!r}, expected one of {', '.join(ORDERS)}")
        tree = order == "tree"
        if tree and self.world_size not in (1, 2, 4, 8):
            raise EngineError(f"all_reduce: {self.world_size} ranks make no tree: expected 1, 2, 4 or 8")
        if out.dtype == np.float16 or x.dtype == np.float16:
            return self._by_float32(x, out, order)
        self._expect("all_reduce", x, out)
        if x.shape != out.shape:
            raise EngineError(f"all_reduce: x is {list(x.shape)}, out {list(out.shape)}: expected one shape")
        if not x.size:
            return out
        flat, sums = x.reshape(-1), out.reshape(-1)
        slots, half = self._slots[x.dtype.char], self._turn()
        if x.nbytes >= TWO_STAGES:
            self._two_stages(flat, slots, half, tree, sums)
            return out
        self._generation += 1
        if not one_stage(
            *(flat, slots, half, self.rank, self._turns, tree),
            *(self._counters, self._generation, self._spins, sums),
        ):
            self.meeting.wait(self._late)
            add_up(slots, half, self._turns, tree, 0, flat.size, sums)
        return out

    def all_gather(self, x: np.ndarray, out: np.ndarray) -> np.ndarray:
        """The columns of all ranks side by side; gives `out`.

        x [R, C] and out [R, V] of one dtype, contiguous, float32 or uint16 (bfloat16 bits); V is at most
        world_size * C, and what is past it is left out. EngineError as `all_reduce`.
        """
        self._expect("all_gather", x, out)
        if x.ndim != 2 or out.ndim != 2 or len(x) != len(out) or x.dtype != out.dtype:
            raise EngineError(
                f"all_gather: x is {x.dtype} {list(x.shape)}, out {out.dtype} {list(out.shape)}: "
                "expected as many rows of one dtype"
            )
        if out.shape[1] > self.world_size * x.shape[1]:
            raise EngineError(
                f"all_gather: {self.world_size} ranks of {x.shape[1]} columns do not fill {out.shape[1]}"
            )
        if not out.size:
            return out
        slots, half = self._slots[x.dtype.char], self._turn()
        put(x.reshape(-1), slots, half, self.rank)
        self._publish()
        side_by_side(slots, half, x.shape[1], out)
        return out

    def _two_stages(self, x: np.ndarray, slots: np.ndarray, half: int, tree: bool, out: np.ndarray) -> None:
        whole = self._whole[out.dtype.char][: x.size]
        put(x, slots, half, self.rank)
        self._publish()
        first, last = (x.size * rank // self.world_size for rank in (self.rank, self.rank + 1))
        add_up(slots, half, self._turns, tree, first, last, whole)
        self._publish()
        out[...] = whole

    def _turn(self) -> int:
        self._half ^= 1
        return self._half

    def _publish(self) -> None:
        """Say that this rank is as far, and wait until all are."""
        self._generation += 1
        announce(self._counters, self.rank, self._generation)
        if not self._all_here(self._spins):
            self.meeting.wait(self._late)

    def _all_here(self, spins: int) -> bool:
        return bool(reached(self._counters, 0, LINE, self.world_size, self._generation, spins, NAPS))

    def _late(self) -> list[int]:
        if self._all_here(0):
            return []
        return [rank for rank, word in enumerate(self._counters[::LINE].tolist()) if word < self._generation]

    def _by_float32(self, x: np.ndarray, out: np.ndarray, order: str) -> np.ndarray:
        if x.dtype not in (np.float16, np.float32) or out.dtype not in (np.float16, np.float32):
            raise EngineError(f"all_reduce: x is {x.dtype}, out {out.dtype}: expected float16 or float32")
        sums = self.all_reduce(x.astype(np.float32), np.empty(out.shape, np.float32), order=order)
        with np.errstate(over="ignore"):
            out[...] = sums
        return out

    def _expect(self, what: str, x: np.ndarray, out: np.ndarray) -> None:
        for name, array in (("x", x), ("out", out)):
            if array.dtype.char not in self._slots:
                raise EngineError(
                    f"{what}: {name} is {array.dtype}, expected float32, float16 or uint16 (bfloat16 bits)"
                )
            if not array.flags.c_contiguous:
                raise EngineError(f"{what}: {name} is not contiguous: strides {array.strides}")
        need = max(x.nbytes, out.nbytes) if what == "all_reduce" else x.nbytes
        if need > self.nbytes:
            raise EngineError(f"{what}: a message of {need} bytes, the group was made for {self.nbytes}")

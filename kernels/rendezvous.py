"""Where the ranks of one host meet: who is there, what they tell each other, and who has died.

Ranks are processes (threads, in tests) that share one block of memory. Nothing waits forever: a rank that
dies, gives up or does not come within the limit is a RankLost that names it, in every other rank.

Every word has one writer, which stores what it announces before it announces it; x86 keeps stores in order.
"""

import os
import time
from collections.abc import Callable, Collection

import numpy as np

from detrec.errors import RankLost
from detrec.kernels import shared_memory

MAX_RANKS = 8

_ABSENT, _HERE, _LEFT, _ABORTED = range(4)
# a rank's words, all written by itself but the expected ones
_STATE, _PID, _BORN, _ROUND, _EVEN, _ODD, _ABORT_TIME, _REASON, _EXPECTED_PID, _EXPECTED_BORN = range(10)
_WORDS = 16
# two halves, for round n + 1 is written while others still read round n
_HALF = 1 << 14
_REASON_BYTES = 1 << 12
_HEAD_BYTES = 1 << 11
_SPINS, _CHECK_EVERY = 200, 0.02
_LEAST_NAP, _MOST_NAP = 5e-5, 2e-3


class Rendezvous:
    """Rank `rank` of `world_size`, from `join`. One thread may use it."""

    def __init__(self, name: str, rank: int, timeout_s: float) -> None:
        self._name, self._memory = name, shared_memory.attach(name)
        head = self._memory[:_HEAD_BYTES].view(np.int64)
        self.rank, self.world_size, self.timeout_s = rank, int(head[0]), timeout_s
        self._creator = int(head[1]), int(head[2])
        self._lines = _lines(self._memory)[: self.world_size]
        body = self._memory[_HEAD_BYTES:]
        self._reasons = body[: MAX_RANKS * _REASON_BYTES].reshape(MAX_RANKS, _REASON_BYTES)
        self._halves = body[MAX_RANKS * _REASON_BYTES :].reshape(MAX_RANKS, 2, _HALF)
        self._round = 0
        self._closed = False
        self._nap = _LEAST_NAP

    @staticmethod
    def create(world_size: int) -> str:
        """A meeting place for `world_size` ranks, 1 to 8; it lives while this process does."""
        if not 1 <= world_size <= MAX_RANKS:
            raise ValueError(f"{world_size} ranks: expected 1 to {MAX_RANKS}")
        name = shared_memory.make(_HEAD_BYTES + MAX_RANKS * (_REASON_BYTES + 2 * _HALF))
        memory = shared_memory.attach(name)
        memory[:24].view(np.int64)[:] = world_size, os.getpid(), _born(os.getpid())
        return name

    @staticmethod
    def expect(name: str, rank: int, pid: int) -> None:
        """Process `pid` will join as `rank`: should it die before, it is not waited for."""
        # the pid last: it announces the other; who is dead already was not born at any time
        _lines(shared_memory.attach(name))[rank, [_EXPECTED_BORN, _EXPECTED_PID]] = _born(pid) or -1, pid

    @staticmethod
    def join(name: str, rank: int, world_size: int, timeout_s: float) -> "Rendezvous":
        """Come to `name`, and wait until all have come; later waits have the same limit.

        RankLost where one died, gave up, or did not come; ValueError for a rank or a size that is not its.
        """
        self = Rendezvous(name, rank, timeout_s)
        if world_size != self.world_size or not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size}: the others are {self.world_size} ranks")
        line = self._lines[rank]
        if line[_STATE] != _ABSENT:
            raise ValueError(f"rank {rank} has joined before")
        line[[_PID, _BORN]] = os.getpid(), _born(os.getpid())
        line[_STATE] = _HERE
        try:
            self.barrier()
        except BaseException:
            self.close()
            raise
        return self

    def exchange(self, data: bytes) -> list[bytes]:
        """What every rank gave, in rank order; any length, and all must call. Raises as `check` does."""
        start, longest = 0, len(data)
        gathered: list[list[bytes]] = [[] for _ in range(self.world_size)]
        while start < longest or not start:
            half, length = self._round % 2, _EVEN + self._round % 2
            part = data[start : start + _HALF]
            self._halves[self.rank, half, : len(part)] = np.frombuffer(part, np.uint8)
            self._lines[self.rank, length] = len(data)
            self._round += 1
            self._lines[self.rank, _ROUND] = self._round
            if not self._all_in_round():
                self._nap = _LEAST_NAP
                self.wait(self._not_in_round)
            lengths = self._lines[:, length].tolist()
            for rank, whole in enumerate(lengths):
                stop = min(max(whole - start, 0), _HALF)
                gathered[rank].append(self._halves[rank, half, :stop].tobytes())
            longest = max(lengths)
            start += _HALF
        return [b"".join(parts) for parts in gathered]

    def barrier(self) -> None:
        """Return when all have called it. Raises as `check` does."""
        self.exchange(b"")

    def block(self, nbytes: int) -> np.ndarray:
        """New memory that all ranks share: uint8 [nbytes] of zeros. All must call."""
        mine = shared_memory.make(nbytes) if self.rank == 0 else ""
        try:
            memory = shared_memory.attach(self.exchange(mine.encode())[0].decode())
            self.barrier()
        finally:
            shared_memory.let_go(mine)
        return memory

    def wait(self, late: Callable[[], Collection[int]]) -> None:
        """Call `late`, which may sleep for milliseconds, until it names no rank that is still to come.

        Raises as `check` does, and RankLost when the limit is over.
        """
        if not late():
            return
        begin = time.monotonic()
        checked = 0.0
        while ranks := late():
            now = time.monotonic()
            if now - checked > _CHECK_EVERY:
                self.check(ranks)
                checked = now
            if now - begin > self.timeout_s:
                raise RankLost(
                    f"rank {min(ranks)} did not come within {self.timeout_s:g} s: "
                    f"rank {self.rank} waited for it",
                    hint="is it stopped, or is the machine much too busy?",
                )

    def check(self, late: Collection[int] = ()) -> None:
        """Raise RankLost where a rank gave up or died, where the process that made the meeting place died,
        or where one of `late`, which are waited for, has left.
        """
        states = self._lines[:, _STATE].tolist()
        if _ABORTED in states:
            times = [
                (int(line[_ABORT_TIME]), rank)
                for rank, line in enumerate(self._lines)
                if states[rank] == _ABORTED
            ]
            reason, _, hint = self._reason(min(times)[1]).partition("\0")
            raise RankLost(reason, hint=hint)
        for rank, state in enumerate(states):
            who = (_PID, _BORN) if state else (_EXPECTED_PID, _EXPECTED_BORN)
            pid, born = self._lines[rank, who].tolist()
            if pid and state in (_ABSENT, _HERE) and _born(pid) != born:
                if self._lines[rank, _STATE] != state:
                    # it left, or gave up, before it died: its last word counts
                    self.check(late)
                    return
                raise RankLost(f"rank {rank} (process {pid}) died")
        if _born(self._creator[0]) != self._creator[1]:
            raise RankLost(f"the process that started the ranks ({self._creator[0]}) died")
        # last, for a rank leaves when it sees that another one died
        for rank in late:
            if states[rank] == _LEFT:
                raise RankLost(f"rank {rank} has ended: rank {self.rank} still waits for it")

    def abort(self, reason: str, hint: str = "") -> None:
        """Tell all others to give up: their `check` raises RankLost with `reason`, or an earlier one."""
        data = f"{reason}\0{hint}".encode()[:_REASON_BYTES]
        self._reasons[self.rank, : len(data)] = np.frombuffer(data, np.uint8)
        self._lines[self.rank, [_REASON, _ABORT_TIME]] = len(data), time.monotonic_ns()
        self._lines[self.rank, _STATE] = _ABORTED

    def close(self) -> None:
        """Leave. Whoever waits for this rank afterwards is told so."""
        if self._lines[self.rank, _STATE] == _HERE:
            self._lines[self.rank, _STATE] = _LEFT
        # once, and by one of them: what is made next may get this name
        if self.rank == 0 and not self._closed:
            self._closed = True
            shared_memory.let_go(self._name)

    def _reason(self, rank: int) -> str:
        length = int(self._lines[rank, _REASON])
        return self._reasons[rank, :length].tobytes().decode(errors="ignore")

    def _all_in_round(self) -> bool:
        """Now or soon; gives way to whom it waits for, who may have no other core."""
        rounds = self._lines[:, _ROUND]
        for _ in range(_SPINS):
            if rounds.min() >= self._round:
                return True
            os.sched_yield()
        return False

    def _not_in_round(self) -> list[int]:
        time.sleep(self._nap)
        # who waits long must not keep a core busy
        self._nap = min(2 * self._nap, _MOST_NAP)
        return np.flatnonzero(self._lines[:, _ROUND] < self._round).tolist()


def _lines(memory: np.ndarray) -> np.ndarray:
    return memory[64 : 64 + MAX_RANKS * _WORDS * 8].view(np.int64).reshape(MAX_RANKS, _WORDS)


def _born(pid: int) -> int:
    """When a process began, in clock ticks, as pids come again; 0 for a dead one, its parent told or not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # the command's name may hold anything, parentheses too
            state, *rest = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if state in b"ZX" else int(rest[18])

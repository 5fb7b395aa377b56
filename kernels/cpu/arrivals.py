"""The order in which the ranks of a host really come to a call: what a fault adds them in."""

import numpy as np

from detrec.kernels.cpu.atomics import fetch_add, reached, store
from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.rendezvous import Rendezvous

_TICKETS, _DONE, _ORDER = 0, 8, 16


@compiled
def _arrive(words: np.ndarray, rank: int, world: int, call: int) -> None:
    """Take a place in the order of this call, whose half is not the one that others may still read."""
    place = fetch_add(words, _TICKETS, 1) % world
    store(words, _ORDER + 8 * (call % 2) + place, rank)
    fetch_add(words, _DONE, 1)


class Arrivals:
    """Tickets of `meeting`'s ranks, which all must make it."""

    def __init__(self, meeting: Rendezvous) -> None:
        self._meeting = meeting
        self._words = meeting.block((_ORDER + 16) * 8).view(np.int64)
        self._calls = 0

    def order(self) -> list[int]:
        """The ranks as they came to this call. Raises as `Rendezvous.check` does."""
        meeting, call = self._meeting, self._calls
        self._calls += 1
        _arrive(self._words, meeting.rank, meeting.world_size, call)
        self._meeting.wait(self._missing)
        first = _ORDER + 8 * (call % 2)
        return [int(rank) for rank in self._words[first : first + meeting.world_size]]

    def _missing(self) -> list[int]:
        wanted = self._calls * self._meeting.world_size
        if reached(self._words, _DONE, 1, 1, wanted, 0, 40):
            return []
        return [rank for rank in range(self._meeting.world_size) if rank != self._meeting.rank]

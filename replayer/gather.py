"""Fingerprints of any rows of a trace, read in whole chunks of which the latest stay in memory.

Rows are first taken as they are stored: where both runs have the same bits, either vouches for the other,
and a digest would take longer than all the rest. What differs is taken again, and then its digest is
checked.
"""

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import numpy as np

from detrec.replayer.columns import Columns
from detrec.replayer.lanes import Lanes
from detrec.replayer.trace import Trace

CACHE_BYTES = 24 << 20


class Gather:
    """Reads rows of some columns of a trace, its ranks in `lanes`."""

    def __init__(
        self, trace: Trace, columns: np.ndarray, lanes: Lanes, *, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self._trace = trace
        whole = np.array_equal(columns, np.arange(len(trace.ops)))
        self._columns: np.ndarray | slice = slice(None) if whole else columns
        self.row_bytes = 8 * len(columns) * len(lanes)
        self._lanes = lanes
        stored = 8 * len(trace.ops) * max(len(lanes), lanes.n_ranks) * trace.fingerprint_chunk_rows
        # a chunk that would fill the cache is read in parts
        parts = -(-stored * 2 // cache_bytes)
        self._unit = max(trace.fingerprint_chunk_rows // max(parts, 1), 1)
        self._room = max(cache_bytes // max(self._unit * self.row_bytes, 1), 2)
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._checked: set[int] = set()

    def take(self, rows: np.ndarray, ops: np.ndarray, *, checked: bool = True) -> np.ndarray:
        """uint64 [rows, ops, lanes], a view where it can be: do not write to it.

        `rows`, int64 [n], in any order; `ops` are indices into `columns`.
        """
        unit, columns = rows // self._unit, _selector(ops)
        if len(rows) and (unit == unit[0]).all():
            number = int(unit[0])
            return self._chunk(number, checked)[:, columns][_selector(rows - number * self._unit)]
        out = np.empty((len(rows), len(ops), len(self._lanes)), np.uint64)
        order = np.argsort(unit, kind="stable")
        for some in np.split(order, np.flatnonzero(np.diff(unit[order])) + 1) if len(rows) else ():
            number = int(unit[some[0]])
            out[_selector(some)] = self._chunk(number, checked)[:, columns][
                _selector(rows[some] - number * self._unit)
            ]
        return out

    def forget(self) -> None:
        """Let go of the chunks that are in memory."""
        self._cache.clear()
        self._checked.clear()

    def _chunk(self, number: int, checked: bool) -> np.ndarray:
        if number in self._cache and (not checked or number in self._checked):
            self._cache.move_to_end(number)
            return self._cache[number]
        while len(self._cache) >= self._room:
            self._checked.discard(self._cache.popitem(last=False)[0])
        start = number * self._unit
        stop = min(start + self._unit, self._trace.n_rows)
        ranks = range(self._lanes.n_ranks)
        prints = [
            self._trace.fingerprints(start, stop, rank, checked=checked)[:, self._columns] for rank in ranks
        ]
        chunk = self._cache[number] = self._lanes.of(prints)
        if checked:
            self._checked.add(number)
        return chunk


class Sides:
    """Rows of both runs at once. Reading takes longer than comparing: each has a thread.

    `differed`: were the rows that were compared last not all equal?
    """

    def __init__(self, recorded: Trace, replayed: Trace, columns: Columns) -> None:
        self._ours = Gather(recorded, columns.recorded, columns.lanes[0])
        self._theirs = Gather(replayed, columns.replayed, columns.lanes[1])
        self.row_bytes = self._ours.row_bytes
        self.differed = False
        # a reader is for one thread: a trace beside itself is read in turn
        self._pool = None if recorded is replayed else ThreadPoolExecutor(1)

    def take(
        self, ours: np.ndarray, theirs: np.ndarray, ops: np.ndarray, *, checked: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """`Gather.take` of either side."""
        if self._pool is None:
            return self._ours.take(ours, ops, checked=checked), self._theirs.take(
                theirs, ops, checked=checked
            )
        other = self._pool.submit(self._theirs.take, theirs, ops, checked=checked)
        return self._ours.take(ours, ops, checked=checked), other.result()

    def __enter__(self) -> "Sides":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        # whoever puts together what was found needs the room
        self._ours.forget()
        self._theirs.forget()


def _selector(rows: np.ndarray) -> np.ndarray | slice:
    """The same indices, as a slice where they are consecutive, so that taking them copies nothing."""
    first = int(rows[0]) if len(rows) else 0
    if len(rows) and int(rows[-1]) - first == len(rows) - 1 and (np.diff(rows) == 1).all():
        return slice(first, first + len(rows))
    return rows

"""One trace of a survey: shared by threads, a few chunks in memory, and its corrupt parts looked past.

A chunk of fingerprints that is not what was recorded reads as "not recorded", and is remembered: what is
missing is never equal.
"""

import threading
from collections import OrderedDict
from functools import cached_property
from typing import Any

import numpy as np

from detrec.engines.base import EventKind, Request
from detrec.errors import TraceCorrupt
from detrec.recorder.reader import Samples, TraceReader
from detrec.recorder.row_columns import RowColumns, rows_of_chunks
from detrec.recorder.schema import EVENT_KINDS
from detrec.replayer.lanes import Lanes

_CACHE_BYTES = 8 << 20
# of so few rows of a chunk the others are not read
_FEW = 64


class Side(RowColumns):
    """A trace as compare wants it (see `replayer.trace.Trace`), safe to read from several threads."""

    def __init__(self, reader: TraceReader) -> None:
        self.reader = reader
        self.path, self.status, self.manifest = reader.path, reader.status, reader.manifest
        self.ops, self.ranks, self.kinds = reader.ops, reader.ranks, reader.kinds
        self.n_rows, self.n_steps = reader.n_rows, reader.n_steps
        self.fingerprint_chunk_rows = reader.fingerprint_chunk_rows
        self.corrupt: dict[tuple[int, int], str] = {}
        """By (rank, chunk) what is wrong with it."""
        self._preempted: dict[int, np.ndarray] = {}
        self._samples: Samples | None = None
        self._lock = threading.RLock()
        self._cache: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._room = max(_CACHE_BYTES // max(8 * len(self.ops) * self.fingerprint_chunk_rows, 1), 2)

    @property
    def requests(self) -> tuple[Request, ...]:
        """The requests in effect."""
        return self.reader.requests

    def column(self, path: str) -> np.ndarray:
        """A whole array of steps, events, slices, rows or samples."""
        with self._lock:
            return self.reader.column(path)

    def samples(self) -> Samples:
        """Every draw."""
        with self._lock:
            if self._samples is None:
                self._samples = self.reader.samples()
            return self._samples

    def kernels_of(self, step: int) -> tuple[str, ...]:
        """The kernel that ran each op in a step."""
        with self._lock:
            return self.reader.kernels_of(step)

    def fingerprint_digest(self, rank: int, chunk: int) -> str | None:
        """The digest of a stored chunk, None where it has none or is not there whole."""
        try:
            with self._lock:
                return self.reader.fingerprint_digest(rank, chunk)
        except TraceCorrupt as error:
            self.corrupt[rank, chunk] = str(error)
            return None

    def fingerprints(self, start: int, stop: int, rank: int = 0, *, checked: bool = True) -> np.ndarray:
        """uint64 [stop - start, ops]; 0 is not recorded, or corrupt. Not `checked`, no digest is
        looked at.
        """
        return rows_of_chunks(
            lambda chunk: self._chunk(rank, chunk, checked),
            self.fingerprint_chunk_rows,
            start,
            stop,
            np.empty((0, len(self.ops)), np.uint64),
        )

    def take(self, rows: np.ndarray, rank: int) -> np.ndarray:
        """Fingerprints of any rows, uint64 [rows, ops]; a row below 0 is not recorded."""
        out = np.zeros((len(rows), len(self.ops)), np.uint64)
        chunk = np.where(rows >= 0, rows // self.fingerprint_chunk_rows, -1)
        order = np.argsort(chunk, kind="stable")
        order = order[chunk[order] >= 0]
        for at in np.split(order, np.flatnonzero(np.diff(chunk[order])) + 1) if len(order) else ():
            number = int(chunk[at[0]])
            out[at] = self._some(rank, number, rows[at] - number * self.fingerprint_chunk_rows)
        return out

    def _some(self, rank: int, chunk: int, rows: np.ndarray) -> np.ndarray:
        """Rows of a chunk, counted from its first, in any order."""
        if len(rows) <= _FEW and (rank, chunk) not in self._cache:
            alone, at = np.unique(rows, return_inverse=True)
            try:
                with self._lock:
                    found = self.reader.vouched_fingerprints(chunk, alone, rank)
            except TraceCorrupt:
                # read as a whole it is known for what it is
                found = None
            if found is not None:
                return found[at]
        return self._kept(rank, chunk)[rows]

    def take_lane(self, rows: np.ndarray, lanes: Lanes, lane: int, columns: np.ndarray) -> np.ndarray:
        """What stands in a lane of some columns, uint64 [rows, columns]; a row below 0 is not recorded."""
        if lanes.cut is None:
            return self.take(rows, lane)[:, columns]
        return lanes.of([self.take(rows, rank)[:, columns] for rank in range(lanes.n_ranks)])[:, :, lane]

    def is_corrupt(self, rows: np.ndarray, rank: int | None) -> np.ndarray:
        """Which of `rows` lie in a chunk that was read and found corrupt, of any rank if None; bool
        [rows].
        """
        bad = [chunk for of, chunk in list(self.corrupt) if rank is None or rank == of or rank >= self.ranks]
        return np.isin(rows // self.fingerprint_chunk_rows, bad) & (rows >= 0)

    @cached_property
    def draws_from(self) -> np.ndarray:
        """Whether a token was drawn from each row, bool [rows]."""
        length = self.column("slices/stop").astype(np.int64) - self.column("slices/start")
        drawn = np.zeros(self.n_rows, bool)
        drawn[np.cumsum(length)[self.column("slices/samples")] - 1] = True
        return drawn

    @cached_property
    def step_rows(self) -> np.ndarray:
        """Step i has rows [step_rows[i], step_rows[i + 1]), int64 [steps + 1]."""
        return np.searchsorted(self.row_step, np.arange(self.n_steps + 1)).astype(np.int64)

    @cached_property
    def step_slices(self) -> np.ndarray:
        """Step i has slices [step_slices[i], step_slices[i + 1]), int64 [steps + 1]."""
        return np.append(self.column("steps/slice_start"), len(self.column("slices/step")))

    def preempted(self, request: int) -> np.ndarray:
        """The steps before which a request was preempted, ascending."""
        if request not in self._preempted:
            kind, of = self.column("events/kind"), self.column("events/request")
            wanted = (of == request) & (kind == EVENT_KINDS.index(EventKind.PREEMPTED))
            self._preempted[request] = np.sort(self.column("events/step")[wanted])
        return self._preempted[request]

    def generation(self, request: int, step: Any) -> Any:
        """How often the request had been preempted when a step ran; an array for an array."""
        at = self.preempted(request)
        return np.searchsorted(at, step, side="right") if len(at) else 0 * step

    def _kept(self, rank: int, chunk: int) -> np.ndarray:
        key = rank, chunk
        with self._lock:
            if key not in self._cache:
                while len(self._cache) >= self._room:
                    self._cache.popitem(last=False)
                self._cache[key] = self._chunk(rank, chunk)
            self._cache.move_to_end(key)
            return self._cache[key]

    def _chunk(self, rank: int, chunk: int, checked: bool = True) -> np.ndarray:
        start = chunk * self.fingerprint_chunk_rows
        stop = min(start + self.fingerprint_chunk_rows, self.n_rows)
        try:
            with self._lock:
                return self.reader.fingerprints(start, stop, rank, checked=checked)
        except TraceCorrupt as error:
            self.corrupt[rank, chunk] = str(error)
            return np.zeros((stop - start, len(self.ops)), np.uint64)

"""One growing array on its way to the store: full chunks are final, the last one is still in the making.

Everything may be done twice with the same result, because Ctrl-C can come between any two lines: rows are put
at their place, never appended, a hash is fed in a copy that then takes its place, and memory that a thread
may read is never written with anything else.
"""

from concurrent.futures import Future

import numpy as np

from detrec.recorder.chunk_threads import AHEAD, WORTH, ChunkThreads
from detrec.recorder.digests import digest, new_hash
from detrec.recorder.schema import ArraySpec
from detrec.recorder.store import Store
from detrec.recorder.turned import copy_rows

TOGETHER = 1 << 17
"""Bytes that `keep_up` lets come together: to open their file takes as long as to write so many."""


class Column:
    """The rows of one array. `digests` lists its files that will not change again.

    `tail` is the memory of the unfinished chunk; rows of it beyond the last one mean nothing. `threads`
    finish full chunks of an array that is not compressed: until `settle` these have no digest.
    """

    def __init__(
        self, spec: ArraySpec, store: Store, tail: np.ndarray, threads: ChunkThreads | None = None
    ) -> None:
        self.spec = spec
        self.rows = 0
        self.digests: dict[str, str] = {}
        self._store = store
        self._tail = tail
        self._threads = None if spec.compressed else threads
        # by file the chunks that threads have, and memory of chunks that they had
        self._going: dict[str, tuple[Future[str], np.ndarray]] = {}
        self._spare: list[np.ndarray] = []
        self._most_going = max(AHEAD // tail.nbytes, 1)
        # the unfinished chunk: its first row, how many rows are hashed, how many are stored
        self._base = 0
        self._hash, self._hashed = new_hash(), 0
        self._stored = 0

    def put(self, start: int, values: np.ndarray) -> None:
        """Set rows [start, start + len(values)), where `start` is at most `rows`; full chunks are stored."""
        assert start <= self.rows, f"{self.spec.path}: row {start} does not follow {self.rows} rows"
        done = max(self._base - start, 0)
        start, values = start + done, values[done:]
        while len(values):
            at = start - self._base
            part = values[: self.spec.chunk - at]
            copy_rows(part, self._tail[at : at + len(part)])
            start, values = start + len(part), values[len(part) :]
            self.rows = max(self.rows, start)
            if at + len(part) == self.spec.chunk:
                self._finish_chunk()

    def keep_up(self) -> None:
        """Hash what was put, and store it where that takes no rewriting, so that a commit has less to do.

        Of little nothing is done: a few steps of few rows are brought up together.
        """
        if (self.rows - self._base - self._hashed) * self.spec.row_bytes < TOGETHER:
            return
        self._feed()
        if not self.spec.compressed and self._store.patches_in_place:
            self.patch()

    def unstored(self) -> tuple[int, int]:
        """The bytes [start, stop) of the unfinished chunk that the store lacks."""
        return self._stored * self.spec.row_bytes, (self.rows - self._base) * self.spec.row_bytes

    def stored(self) -> None:
        """The store lacks none of them now."""
        self._stored = self.rows - self._base

    def patch(self) -> None:
        """Store new rows of an array that is not compressed where they belong."""
        start, stop = self.unstored()
        if stop > start:
            self._store.patch(self._key, self._tail.data.cast("B"), [(start, stop)])
        self.stored()

    @property
    def settled(self) -> bool:
        """Does no thread have anything left to do?"""
        return all(future.done() for future, _ in self._going.values())

    def settle(self) -> None:
        """Wait until every full chunk is stored. TraceError where a thread could not."""
        for key in list(self._going):
            self._take_back(key)

    def tail(self) -> tuple[int, str]:
        """How many rows the unfinished chunk has, and the digest of their bytes as they are in memory."""
        self._feed()
        return self._hashed, self._hash.hexdigest()

    def seal(self) -> None:
        """Write the unfinished chunk and the metadata for good."""
        if self.rows > self._base:
            self._tail[self.rows - self._base :] = 0
            self._write(self._key, self.spec.encode(self._tail))
        self._write(f"{self.spec.path}/zarr.json", self.spec.metadata(self.rows))

    @property
    def _key(self) -> str:
        return self.spec.key(self._base // self.spec.chunk)

    def _write(self, key: str, data: bytes) -> None:
        self._store.write(key, data)
        self.digests[key] = digest(data)

    def _feed(self) -> None:
        filled = self.rows - self._base
        if filled > self._hashed:
            fed = self._hash.copy()
            fed.update(self._tail[self._hashed : filled].data.cast("B"))
            self._hash, self._hashed = fed, filled

    def _finish_chunk(self) -> None:
        key, tail, going = self._key, self._tail, None
        if self.spec.compressed:
            self._write(key, self.spec.encode(tail))
        elif self._threads and (self.spec.chunk - self._hashed) * self.spec.row_bytes >= WORTH:
            tail = self._fresh_chunk()
            done = self._hashed * self.spec.row_bytes, self._stored * self.spec.row_bytes
            fed = self._hash.copy()
            going = self._threads.finish(key, self._tail.data.cast("B"), fed, *done), self._tail
        else:
            self.patch()
            self._feed()
            self.digests[key] = self._hash.hexdigest()
        unfed = new_hash()
        # no call between these: they happen all or none
        if going:
            self._going[key] = going
        self._tail = tail
        self._base += self.spec.chunk
        self._hash, self._hashed, self._stored = unfed, 0, 0

    def _fresh_chunk(self) -> np.ndarray:
        if len(self._going) >= self._most_going:
            self._take_back(next(iter(self._going)))
        return self._spare.pop() if self._spare else np.empty_like(self._tail)

    def _take_back(self, key: str) -> None:
        future, chunk = self._going[key]
        self.digests[key] = future.result()
        # in this order: memory that is taken back twice would be given out twice
        del self._going[key]
        self._spare.append(chunk)

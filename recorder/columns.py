"""One growing array on its way to the store: full chunks are final, the last one is still in the making.

Everything may be done twice with the same result, because Ctrl-C can come between any two lines: rows are put
at their place, never appended, and a hash is fed in a copy that then takes its place.
"""

from collections.abc import Iterable

import numpy as np

from detrec.recorder.digests import digest, new_hash
from detrec.recorder.schema import TAIL, ArraySpec, tail_layout
from detrec.recorder.store import Store


class Column:
    """The rows of one array. `digests` lists its files that will not change again.

    `tail` is the memory of the unfinished chunk; rows of it beyond the last one mean nothing.
    """

    def __init__(self, spec: ArraySpec, store: Store, tail: np.ndarray) -> None:
        self.spec = spec
        self.rows = 0
        self.digests: dict[str, str] = {}
        self._store = store
        self._tail = tail
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
            self._tail[at : at + len(part)] = part
            start, values = start + len(part), values[len(part) :]
            self.rows = max(self.rows, start)
            if at + len(part) == self.spec.chunk:
                self._finish_chunk()

    def keep_up(self) -> None:
        """Hash what was put, and store it where that takes no rewriting, so that a commit has less to do."""
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
        if self.spec.compressed:
            self._write(self._key, self.spec.encode(self._tail))
        else:
            self.patch()
            self._feed()
            self.digests[self._key] = self._hash.hexdigest()
        unfed = new_hash()
        # no call between these: they happen all or none
        self._base += self.spec.chunk
        self._hash, self._hashed, self._stored = unfed, 0, 0


class Columns:
    """The columns of a trace.

    Unfinished chunks of compressed arrays share one file until they are full or the trace is closed: to
    replace thirty small files at each commit costs tens of milliseconds on a file system that flushes what a
    rename replaces.
    """

    def __init__(self, specs: Iterable[ArraySpec], store: Store) -> None:
        self._store = store
        self._offsets, size = tail_layout(specs)
        self._memory = np.zeros(size, np.uint8)
        self.by_path = {spec.path: Column(spec, store, self._chunk(spec)) for spec in specs}

    def store(self) -> None:
        """Bring the files up to the rows that were put."""
        ranges = []
        for path, column in self.by_path.items():
            if path in self._offsets:
                start, stop = column.unstored()
                ranges.append((self._offsets[path] + start, self._offsets[path] + stop))
            else:
                column.patch()
        self._store.patch(TAIL, self._memory.data, ranges)
        for column in self.by_path.values():
            column.stored()

    def seal(self) -> None:
        """Write all that is unfinished for good."""
        for column in self.by_path.values():
            column.seal()
        self._store.delete(TAIL)

    def tails(self) -> dict[str, tuple[int, str]]:
        """By path the rows of the unfinished chunk and their digest."""
        return {path: column.tail() for path, column in self.by_path.items()}

    def digests(self) -> dict[str, str]:
        """By file the digests of what is final."""
        return {key: value for column in self.by_path.values() for key, value in column.digests.items()}

    def _chunk(self, spec: ArraySpec) -> np.ndarray:
        shape = spec.shape(spec.chunk)
        if not spec.compressed:
            return np.zeros(shape, spec.dtype)
        start = self._offsets[spec.path]
        return self._memory[start : start + spec.chunk * spec.row_bytes].view(spec.dtype).reshape(shape)

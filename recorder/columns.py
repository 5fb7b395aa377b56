"""The growing arrays of a trace on their way to the store."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from detrec.recorder.chunk_threads import ChunkThreads
from detrec.recorder.column import Column
from detrec.recorder.schema import TAIL, ArraySpec, tail_layout
from detrec.recorder.store import Store

# threads that close a trace: sixty small files, of which most of the time goes into the file system
_CLOSING = 4


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
        self._threads = ChunkThreads(store) if store.patches_in_place else None
        self.by_path = {spec.path: Column(spec, store, self._chunk(spec), self._threads) for spec in specs}
        # those that threads finish
        self._apart = [column for column in self.by_path.values() if not column.spec.compressed]

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
            column.settle()

    def seal(self) -> None:
        """Write all that is unfinished for good."""
        columns = list(self.by_path.values())
        # leaving it waits for what was begun, after Ctrl-C too: what then seals again is alone
        with ThreadPoolExecutor(_CLOSING if self._threads else 1, "detrec-closing") as pool:
            for _ in pool.map(Column.seal, columns):
                pass
        for column in columns:
            column.settle()
        if self._threads:
            self._threads.close()
        self._store.delete(TAIL)

    @property
    def settled(self) -> bool:
        """Does no thread have anything left to do?"""
        return all(column.settled for column in self._apart)

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

"""Full chunks are hashed and stored by threads of their own, while the engine's thread goes on.

Nearly all of that is done without Python's lock. Ctrl-C is heard in the main thread alone, so that what was
begun here is ended; what goes wrong is raised where the chunk is waited for.
"""

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor

from detrec.recorder.store import Store

AHEAD = 1 << 25
"""Bytes of one array that may wait for their threads."""

WORTH = 1 << 18
"""Bytes of a chunk, yet to be hashed, from which on a thread is quicker than to do it at once."""

_MOST = 4


class ChunkThreads:
    """Threads of one writer, started when there is something to do. `store` patches in place."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool: ThreadPoolExecutor | None = None

    def finish(
        self, key: str, chunk: memoryview, fed: "hashlib.blake2b", hashed: int, stored: int
    ) -> "Future[str]":
        """Store and hash the rest of the full `chunk`; gives its digest.

        `fed`, which nobody else may use, has seen its first `hashed` bytes, `key` holds the first `stored`.
        Neither it nor the chunk's bytes may change before the result is there.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(min(_MOST, os.cpu_count() or 1), "detrec-chunks")
        return self._pool.submit(self._finish, key, chunk, fed, hashed, stored)

    def _finish(self, key: str, chunk: memoryview, fed: "hashlib.blake2b", hashed: int, stored: int) -> str:
        self._store.patch(key, chunk, [(stored, len(chunk))])
        fed.update(chunk[hashed:])
        return fed.hexdigest()

    def close(self) -> None:
        """Let the threads go; what was given to them is done first."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

"""RankWriter: what a rank above 0 writes of a recording, its own array of fingerprints and nothing else.

No lock and no message: its rows go to its own files, and how far it is to a file of its own, which rank 0
reads before it commits. Schedule, tokens and samples are the same on every rank, and rank 0's to write.
"""

from pathlib import Path
from types import TracebackType

import numpy as np

from detrec.errors import DetrecError, TraceError
from detrec.recorder.chunk_threads import ChunkThreads
from detrec.recorder.column import Column
from detrec.recorder.digests import read_root
from detrec.recorder.pace import Pace
from detrec.recorder.progress import Progress, progress_file
from detrec.recorder.schema import growing_arrays
from detrec.recorder.steps import Record
from detrec.recorder.store import open_store
from detrec.recorder.turned import rows_of


class RankWriter:
    """Records rank `rank` > 0 of the trace `uuid` that rank 0's TraceWriter has made at `path`.

    Steps are flushed every `flush_steps` steps or `flush_seconds` seconds, whichever comes first: more often
    than rank 0 commits, which waits for nobody. As a context manager, leaving it closes the rank's part, and
    an exception leaves what was flushed. Raises TraceError where that trace is not there or not being
    recorded, or the medium fails, ValueError for steps that do not fit.
    """

    sketch_parts = 0
    """Sketches are rank 0's."""

    def __init__(
        self, path: str | Path, rank: int, *, uuid: str, flush_steps: int = 32, flush_seconds: float = 0.1
    ) -> None:
        self._store = open_store(path)
        root = read_root(self._store)
        if root["uuid"] != uuid or root["status"] != "recording":
            raise TraceError(
                f"{self._store.name}: is trace {root['uuid']}, {root['status']}; rank {rank} is of {uuid}"
            )
        if not 0 < rank < root["ranks"]:
            raise ValueError(f"rank {rank} is not one of 1 to {root['ranks'] - 1}")
        self.rank = rank
        self.ops: tuple[str, ...] = tuple(root["ops"])
        spec = growing_arrays(len(self.ops), root["ranks"])[f"fingerprints/{rank}"]
        self._threads = ChunkThreads(self._store) if self._store.patches_in_place else None
        tail = np.zeros(spec.shape(spec.chunk), spec.dtype)
        self._column = Column(spec, self._store, tail, self._threads)
        self._progress = Progress()
        self._pending: list[np.ndarray] = []
        self._pace = Pace(flush_steps, spec.chunk, flush_seconds)

    def step(self, record: Record) -> None:
        """Add a step's fingerprints, which are copied; rank 0 records the rest."""
        step, fingerprints = record.step, record.fingerprints
        expected = self._progress.steps + len(self._pending)
        if self._progress.state != "recording":
            raise ValueError(f"rank {self.rank}: its part of the trace is {self._progress.state}")
        if step.index != expected or fingerprints.shape != (step.rows, len(self.ops)):
            raise ValueError(
                f"rank {self.rank}, step {step.index}: expected step {expected} and fingerprints of shape "
                f"{(step.rows, len(self.ops))}, got {fingerprints.shape}"
            )
        self._pending.append(rows_of(fingerprints))
        self._pace.add(step.rows)
        if self._pace.due():
            self.flush()

    def flush(self) -> None:
        """Write what is pending, and then that it is there."""
        self._pace.begin()
        if self._pending:
            self._put()
            self._column.patch()
            self._tell(self._now("recording"))
        self._pace.end()

    def close(self) -> None:
        """Write all of it for good. Closing it again changes nothing."""
        if self._progress.state == "recording":
            self._put()
            self._column.seal()
            self._tell(self._now("closed"))
            if self._threads:
                self._threads.close()

    def fail(self, reason: str) -> None:
        """End with what there is, and tell rank 0 why."""
        if self._progress.state == "recording":
            self._put()
            self._column.patch()
            self._tell(self._now("failed", reason))

    def __enter__(self) -> "RankWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.fail(f"{type(error).__name__}: {error}".removesuffix(": "))
        except DetrecError as second:
            error.add_note(f"{second}; what was flushed before can be read")

    def _put(self) -> None:
        row = self._progress.rows
        for prints in self._pending:
            self._column.put(row, prints)
            row += len(prints)

    def _now(self, state: str, reason: str = "") -> Progress:
        self._column.settle()
        return Progress(
            steps=self._progress.steps + len(self._pending),
            rows=self._column.rows,
            tail=self._column.tail(),
            state=state,
            reason=reason,
            digests=dict(self._column.digests),
        )

    def _tell(self, progress: Progress) -> None:
        self._store.write(progress_file(self.rank), progress.to_bytes())
        # no call between these: they happen all or none
        self._progress, self._pending = progress, []

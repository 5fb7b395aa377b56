"""TraceWriter: puts steps into a trace that can be read however its recorder ends.

A step is brought into arrays as it comes; commits write these first and the marker of what they hold last.
The final bytes are a function of what was recorded: when commits happened cannot be seen in them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

from detrec.engines.base import OpKind, Request
from detrec.errors import DetrecError, TraceError
from detrec.recorder.columns import Columns
from detrec.recorder.digests import digest, looks_like_a_trace, require_outside, root_bytes
from detrec.recorder.misfits import refuse_misfits
from detrec.recorder.pace import Pace
from detrec.recorder.pending import Pending
from detrec.recorder.progress import OtherRanks
from detrec.recorder.requests import fixed_files
from detrec.recorder.schema import (
    COUNTS,
    FORMAT_VERSION,
    group_metadata,
    growing_arrays,
    kinds_to_attributes,
)
from detrec.recorder.steps import Codes, Record
from detrec.recorder.store import open_store, refuse_taken

# how many times as long as the last commit took until time alone asks for the next
_PATIENCE = 19

# fingerprints that steps not yet committed may hold
_NEW_BYTES = 1 << 26


class TraceWriter:
    """Records one run at `path`, a local path or any fsspec URL.

    On a local path the trace appears whole: a kill at any moment leaves nothing or a trace that opens. A URL
    has no rename; killed before it is made, it leaves files without a root, which are not a trace. Steps are
    committed every `commit_steps` steps or `commit_seconds` seconds, whichever comes first; where a commit is
    slow, seconds are stretched so that commits take a twentieth of the time at most, and where chunks are
    still being written, doubled.

    Of a run on several ranks this is rank 0's writer; the others' are RankWriters of the same path and
    `uuid`. `kinds` says of every op what the ranks hold of it. Only steps that all ranks have on disk are
    committed, and closing waits `rank_seconds` for the others to close, or until `alive` raises because one
    has died.

    As a context manager, leaving it completes the trace, and an exception (Ctrl-C too) makes it a failed one.
    Raises TraceError where something is there already (unless `overwrite` is set and it is a trace) or the
    medium fails, ValueError for arguments that do not fit each other.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        manifest: dict[str, Any],
        requests: Sequence[Request],
        ops: Sequence[str],
        ranks: int = 1,
        kinds: Sequence[OpKind] | None = None,
        sketch_parts: int = 0,
        overwrite: bool = False,
        commit_steps: int = 64,
        commit_seconds: float = 0.2,
        rank_seconds: float = 60.0,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        if not ops or len(set(ops)) != len(ops) or ranks < 1 or commit_steps < 1:
            raise ValueError("expected distinct ops, at least one rank and at least one step a commit")
        self.check_free(path, overwrite=overwrite)
        self._store = open_store(path)
        self._ops = tuple(ops)
        self._rank_seconds, self._alive = rank_seconds, alive
        self.uuid = str(uuid4())
        self._identity = {"format_version": FORMAT_VERSION, "uuid": self.uuid}
        self._content = {"manifest": manifest, "ops": list(ops), "ranks": ranks}
        self.sketch_parts = sketch_parts
        if sketch_parts:
            self._content["sketch_parts"] = sketch_parts
        if ranks > 1:
            self._content |= kinds_to_attributes(ops, kinds or [OpKind.REPLICATED] * len(ops))
        self._others = OtherRanks(self._store, ranks)
        self._codes = Codes(request.id for request in requests)
        self._specs = growing_arrays(len(ops), ranks, sketch_parts)
        self._counts = dict.fromkeys(COUNTS, 0)
        self.status = "recording"
        files = fixed_files(requests)
        if sketch_parts:
            files["sketches/zarr.json"] = group_metadata({})
        self._fixed = {key: digest(data) for key, data in files.items()}
        self._attached: dict[str, bytes] = {}
        own = [spec for spec in self._specs.values() if spec.rank == 0]
        self._columns = Columns(own, self._store)
        # other ranks may never come to a step, and what is in the arrays stays there
        self._pending = Pending(self._columns, self._specs, self._codes, self._counts, early=ranks == 1)
        files |= {f"{path}/zarr.json": spec.metadata(0) for path, spec in self._specs.items()}
        self._store.create({**files, "zarr.json": self._root("recording", "")}, replace=overwrite)
        self._pace = Pace(commit_steps, max(_NEW_BYTES // (8 * len(ops)), 1), commit_seconds, _PATIENCE)

    @staticmethod
    def check_free(path: str | Path, *, overwrite: bool = False) -> None:
        """Raise TraceError unless `path` is free for a trace.

        One can be made there; nothing is there, or a trace to overwrite that nobody records just now; and it
        is in no other trace.
        """
        store = open_store(path)
        require_outside(path)
        store.require_place()
        if not store.exists():
            return
        refuse_taken(store.name, True, overwrite, store.is_claimed())
        if not looks_like_a_trace(store):
            raise TraceError(
                f"{store.name}: is not a trace, so it is not overwritten",
                hint="delete it yourself, or name another place",
            )

    def step(self, record: Record) -> None:
        """Add a step of rank 0. Its arrays may change when this has returned, not when it was interrupted."""
        if self.status != "recording":
            raise ValueError(f"the trace is closed: {self.status}")
        expected = self._counts["steps"] + len(self._pending)
        refuse_misfits(record, expected, self._ops, self.sketch_parts, self._codes.requests)
        self._pending.add(record)
        self._pace.add(record.step.rows)
        if self._pace.due(self._columns.settled):
            self.commit()

    def attach(self, name: str, data: bytes) -> None:
        """Keep `data` with the trace, under `name`, from its end on; `name` is one word."""
        self._attached[f"attached/{name}"] = data

    def commit(self) -> None:
        """Write what is pending and what every other rank has, and then that it is there."""
        self._pace.begin()
        self._others.look()
        ready = self._ready()
        if ready:
            counts = self._pending.put(ready)
            self._columns.store()
            self._store.write("zarr.json", self._root("recording", "", counts))
            self._counts, self._pending = counts, self._pending.after(ready, counts)
        self._pace.end()

    def close(self) -> None:
        """Complete the trace; a second time changes nothing. TraceError where another rank does not close."""
        if self.status == "recording":
            self._others.wait(self._counts["steps"] + len(self._pending), self._rank_seconds, self._alive)
            self._seal("complete", "")

    def fail(self, reason: str) -> None:
        """End the trace with what it has, as failed for `reason`."""
        if self.status == "recording":
            self._others.look()
            self._seal("failed", reason)

    def __enter__(self) -> "TraceWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._fail_for(error)
            return
        try:
            self.close()
        except BaseException as interruption:
            self._fail_for(interruption)
            raise

    def _fail_for(self, error: BaseException) -> None:
        try:
            self.fail(f"{type(error).__name__}: {error}".removesuffix(": "))
        except DetrecError as second:
            error.add_note(f"{second}; what was committed before can be read")
        finally:
            self._store.release()

    def _ready(self) -> int:
        """How many of the pending steps all ranks have."""
        done = self._counts["steps"]
        return self._others.steps(done + len(self._pending)) - done

    def _seal(self, status: str, reason: str) -> None:
        ready = self._ready()
        if ready:
            counts = self._pending.put(ready)
            self._counts, self._pending = counts, self._pending.after(ready, counts)
        self._columns.seal()
        for key, data in self._attached.items():
            self._store.write(key, data)
            self._fixed[key] = digest(data)
        if status == "complete":
            self._others.forget()
        self._store.write("zarr.json", self._root(status, reason))
        self.status = status
        self._store.release()

    def _root(self, status: str, reason: str, counts: dict[str, int] | None = None) -> bytes:
        digests = self._fixed | self._columns.digests() | self._others.digests()
        tails = self._columns.tails() if status == "recording" else {}
        attributes = {
            **self._identity,
            "status": status,
            "reason": reason,
            **self._content,
            "kernels": list(self._codes.kernels),
            "finish": list(self._codes.finish),
            "committed": counts or self._counts,
            "tails": tails | self._others.tails(),
            "digests": dict(sorted(digests.items())),
        }
        if status != "complete" and (flushed := self._others.rows()):
            attributes["flushed"] = flushed
        return root_bytes(attributes)

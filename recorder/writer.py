"""TraceWriter: puts steps into a trace that can be read however its recorder ends.

A step's fingerprints are stored when it comes, the rest at the next commit: arrays first, and the marker of
what they hold last. The final bytes are a function of what was recorded: when commits were cannot be seen.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import numpy as np

from detrec.engines.base import Event, EventKind, Request, Sample, Slice, Step
from detrec.errors import DetrecError, TraceError
from detrec.recorder.columns import Columns
from detrec.recorder.digests import digest, looks_like_a_trace, root_bytes
from detrec.recorder.requests import REQUEST_ARRAYS, requests_to_arrays
from detrec.recorder.schema import COUNTS, FORMAT_VERSION, GROUPS, group_metadata, growing_arrays
from detrec.recorder.steps import Codes, Record, arrays_of
from detrec.recorder.store import open_store

# how many times as long as the last commit took until time alone asks for the next
_PATIENCE = 19


# steps that are put together into the arrays: a commit then has no more than these to do
_PUT_STEPS = 8
# fingerprints that steps not yet committed may hold
_PENDING_BYTES = 1 << 26


class _Pending:
    """Steps since the last commit; `put`: how many of them are in the arrays, and what these hold then."""

    def __init__(self, counts: dict[str, int]) -> None:
        self.records: list[Record] = []
        self.rows = counts["rows"]
        self.put = 0, counts


class TraceWriter:
    """Records one run at `path`, a local path or any fsspec URL.

    On a local path the trace appears whole: a kill at any moment leaves nothing or a trace that opens. A URL
    has no rename; killed before it is made, it leaves files without a root, which are not a trace. Steps are
    committed every `commit_steps` steps or `commit_seconds` seconds, whichever comes first; where a commit is
    slow, seconds are stretched so that commits take a twentieth of the time at most.

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
        overwrite: bool = False,
        commit_steps: int = 64,
        commit_seconds: float = 0.2,
    ) -> None:
        if not ops or len(set(ops)) != len(ops) or ranks < 1 or commit_steps < 1:
            raise ValueError("expected distinct ops, at least one rank and at least one step a commit")
        self.check_free(path, overwrite=overwrite)
        self._store = open_store(path)
        self._ops, self._ranks = tuple(ops), ranks
        self._commit_steps, self._commit_seconds = commit_steps, commit_seconds
        self._identity = {"format_version": FORMAT_VERSION, "uuid": str(uuid4())}
        self._content = {"manifest": manifest, "ops": list(ops), "ranks": ranks}
        self._codes = Codes(request.id for request in requests)
        self._specs = growing_arrays(len(ops), ranks)
        self._counts = dict.fromkeys(COUNTS, 0)
        self._pending = _Pending(self._counts)
        self._max_pending_rows = max(_PENDING_BYTES // (8 * len(ops) * ranks), 1)
        self.status = "recording"
        files = _fixed_files(requests)
        self._fixed = {key: digest(data) for key, data in files.items()}
        self._columns = Columns(self._specs.values(), self._store)
        files |= {f"{path}/zarr.json": spec.metadata(0) for path, spec in self._specs.items()}
        self._store.create({**files, "zarr.json": self._root("recording", "")})
        self._commit_due = time.monotonic() + commit_seconds

    @staticmethod
    def check_free(path: str | Path, *, overwrite: bool = False) -> None:
        """Raise TraceError unless `path` is free for a trace: nothing is there, or a trace to overwrite."""
        store = open_store(path)
        if not store.exists():
            return
        if not overwrite:
            raise TraceError(
                f"{store.name}: exists already", hint="--overwrite replaces it, -o names another place"
            )
        if not looks_like_a_trace(store):
            raise TraceError(
                f"{store.name}: is not a trace, so it is not overwritten",
                hint="delete it yourself, or name another place",
            )

    def step(
        self,
        step: Step,
        tokens: Sequence[int] | np.ndarray,
        fingerprints: Sequence[np.ndarray],
        kernels: tuple[str, ...],
        samples: Sequence[Sample],
        finished: Sequence[Event],
        seconds: float,
        padded_rows: int = 0,
        graph_bucket: int = 0,
    ) -> None:
        """Add a step: `tokens` one a row, `fingerprints` one uint64 [rows, ops] a rank, `kernels` one an op.

        Arrays are copied. `seconds` is wall time.
        """
        self._refuse_misfits(step, tokens, fingerprints, kernels, samples, finished)
        prints = tuple(np.array(array, np.uint64, order="C") for array in fingerprints)
        tokens = np.array(tokens, np.int32)
        # one append: Ctrl-C leaves a step in or out, never half
        self._pending.records.append(
            Record(
                step,
                tokens,
                prints,
                tuple(kernels),
                tuple(samples),
                tuple(finished),
                seconds,
                padded_rows,
                graph_bucket,
            )
        )
        self._put_fingerprints(self._pending.rows, prints)
        self._pending.rows += len(tokens)
        if (
            len(self._pending.records) >= self._commit_steps
            or self._pending.rows - self._counts["rows"] >= self._max_pending_rows
            or time.monotonic() >= self._commit_due
        ):
            self.commit()
        elif len(self._pending.records) - self._pending.put[0] >= _PUT_STEPS:
            self._put_pending()

    def commit(self) -> None:
        """Write what is pending, and then that it is there."""
        begin = time.monotonic()
        if self._pending.records:
            counts = self._put_pending()
            self._columns.store()
            self._store.write("zarr.json", self._root("recording", "", counts))
            self._counts, self._pending = counts, _Pending(counts)
        end = time.monotonic()
        self._commit_due = end + max(self._commit_seconds, _PATIENCE * (end - begin))

    def close(self) -> None:
        """Complete the trace. Closing it again changes nothing."""
        if self.status == "recording":
            self._seal("complete", "")

    def fail(self, reason: str) -> None:
        """End the trace with what it has, as failed for `reason`."""
        if self.status == "recording":
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

    def _refuse_misfits(
        self,
        step: Step,
        tokens: Sequence[int] | np.ndarray,
        fingerprints: Sequence[np.ndarray],
        kernels: Sequence[str],
        samples: Sequence[Sample],
        finished: Sequence[Event],
    ) -> None:
        if self.status != "recording":
            raise ValueError(f"the trace is closed: {self.status}")
        rows, ops = step.rows, len(self._ops)
        shapes = [array.shape for array in fingerprints]
        if (len(tokens), len(kernels), shapes) != (rows, ops, [(rows, ops)] * self._ranks):
            raise ValueError(
                f"step {step.index}: expected {rows} tokens, {ops} kernels and fingerprints of "
                f"{self._ranks} ranks, got {len(tokens)}, {len(kernels)} and shapes {shapes}"
            )
        expected = self._counts["steps"] + len(self._pending.records)
        if step.index != expected:
            raise ValueError(f"step {step.index}: expected step {expected}")
        named: tuple[Slice | Event | Sample, ...] = (*step.slices, *step.events, *samples, *finished)
        for part in named:
            if part.request not in self._codes.requests:
                raise ValueError(f"step {step.index}: unknown request {part.request!r}")
        before = [event.kind is EventKind.FINISHED for event in step.events]
        after = [event.kind is EventKind.FINISHED for event in finished]
        if any(before) or not all(after):
            raise ValueError(f"step {step.index}: requests finish after a step, and nothing else does")

    def _put_pending(self) -> dict[str, int]:
        """Put what is not yet, and tell what the arrays hold then."""
        pending = self._pending
        done, before = pending.put
        records = pending.records[done:]
        if not records:
            return before
        row = before["rows"]
        for record in records:
            # the last one may have been interrupted
            self._put_fingerprints(row, record.fingerprints)
            row += record.step.rows
        arrays, counts = arrays_of(records, before, self._codes, self._specs)
        for path, values in arrays.items():
            self._columns.by_path[path].put(before[self._specs[path].count], values)
        # both at once: Ctrl-C between them would lose steps, or put them twice
        pending.put = len(pending.records), counts
        return counts

    def _put_fingerprints(self, row: int, prints: Sequence[np.ndarray]) -> None:
        """They are most of a trace: put as they come, so that no commit takes long."""
        for rank, values in enumerate(prints):
            column = self._columns.by_path[f"fingerprints/{rank}"]
            if column.rows < row + len(values):
                column.put(row, values)
                column.keep_up()

    def _seal(self, status: str, reason: str) -> None:
        if self._pending.records:
            counts = self._put_pending()
            self._counts, self._pending = counts, _Pending(counts)
        self._columns.seal()
        self._store.write("zarr.json", self._root(status, reason))
        self.status = status

    def _root(self, status: str, reason: str, counts: dict[str, int] | None = None) -> bytes:
        digests = self._fixed | self._columns.digests()
        tails = self._columns.tails() if status == "recording" else {}
        return root_bytes(
            {
                **self._identity,
                "status": status,
                "reason": reason,
                **self._content,
                "kernels": list(self._codes.kernels),
                "finish": list(self._codes.finish),
                "committed": counts or self._counts,
                "tails": tails,
                "digests": dict(sorted(digests.items())),
            }
        )


def _fixed_files(requests: Sequence[Request]) -> dict[str, bytes]:
    """Files that do not change after the start: groups and requests."""
    arrays, attributes = requests_to_arrays(requests)
    files = {
        f"{group}/zarr.json": group_metadata(attributes if group == "requests" else {}) for group in GROUPS
    }
    for path, values in arrays.items():
        spec = REQUEST_ARRAYS[path]
        files[f"{path}/zarr.json"] = spec.metadata(len(values))
        for chunk in range(spec.chunks(len(values))):
            part = values[chunk * spec.chunk : (chunk + 1) * spec.chunk]
            whole = np.zeros(spec.chunk, spec.dtype)
            whole[: len(part)] = part
            files[spec.key(chunk)] = spec.encode(whole)
    return files

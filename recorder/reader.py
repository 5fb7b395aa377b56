"""TraceReader: a trace up to its commit marker, every byte of it checked before it is believed.

A chunk that is missing or changed raises TraceCorrupt; it never reads as zeros.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from detrec.engines.base import Event, EventKind, OpKind, Request, Slice, Step
from detrec.errors import TraceIncomplete
from detrec.printable import counted
from detrec.recorder.chunks import CheckedChunks
from detrec.recorder.digests import read_root
from detrec.recorder.requests import REQUEST_ARRAYS, requests_from_arrays
from detrec.recorder.row_columns import RowColumns, rows_of_chunks
from detrec.recorder.schema import EVENT_KINDS, KINDS, growing_arrays, kinds_from_attributes
from detrec.recorder.store import open_store

_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Samples:
    """Every sample of a trace, one array a column, in the order in which they were drawn.

    `request` indexes the trace's requests; `finish` is a string, empty where the request went on.
    """

    step: np.ndarray
    request: np.ndarray
    position: np.ndarray
    token: np.ndarray
    taken: np.ndarray
    logprob: np.ndarray
    margin: np.ndarray
    seed: np.ndarray
    counter: np.ndarray
    finish: np.ndarray


class TraceReader(RowColumns):
    """The trace at `path`, a local path or any fsspec URL; of its `all_steps`, the first `steps` if given.

    `status` is recording, complete or failed (`reason` says why), or partial where steps were left out. Row
    columns are int32 [n_rows] in the order of the batch, step after step; `row_request` indexes `requests`.
    Arrays are read-only. `kinds`: what the ranks hold of each op.

    Raises TraceError where there is no trace, TraceVersion where another detrec wrote it, TraceCorrupt, from
    here or from any later access, where its bytes are not those that were recorded.
    """

    def __init__(self, path: str | Path, *, steps: int | None = None) -> None:
        self.path = str(path)
        self._store = open_store(path)
        root = read_root(self._store)
        self.status: str = root["status"]
        self.reason: str = root["reason"]
        self.uuid: str = root["uuid"]
        self.manifest: dict[str, Any] = root["manifest"]
        self.ops: tuple[str, ...] = tuple(root["ops"])
        self.ranks: int = root["ranks"]
        self.kinds: tuple[OpKind, ...] = kinds_from_attributes(self.ops, root)
        self._kernels: list[str] = root["kernels"]
        self._finish: list[str] = root["finish"]
        self.counts: dict[str, int] = root["committed"]
        self.n_steps = self.counts["steps"]
        self.n_rows = self.counts["rows"]
        self.n_samples = self.counts["samples"]
        self._sketch_parts: int = root.get("sketch_parts", 0)
        self._specs = growing_arrays(len(self.ops), self.ranks, self._sketch_parts)
        self._chunks = CheckedChunks(self._store, root, self._specs.values())
        self.fingerprint_chunk_rows = self._specs["fingerprints/0"].chunk
        self._columns: dict[str, np.ndarray] = {}
        self._latest: dict[str, tuple[int, np.ndarray]] = {}
        # what is stored is read, and its digests looked at, as it was written
        self._stored, self.all_steps = self.counts, self.n_steps
        if steps is not None and steps < self.n_steps:
            self._leave_out_after(steps)

    def _leave_out_after(self, steps: int) -> None:
        """As if the recorder had stopped there."""
        parts = ("slices", "rows", "samples", "events")
        cut = {part: int(np.searchsorted(self.column(f"{part}/step"), steps)) for part in parts}
        self._columns.clear()
        self.counts = {**self.counts, **cut, "steps": steps}
        self.n_steps, self.n_rows, self.n_samples = steps, cut["rows"], cut["samples"]
        self.status = "partial"

    def require_complete(self) -> None:
        """Raise TraceIncomplete unless the trace was closed in good order."""
        if self.status == "recording":
            raise TraceIncomplete(
                f"{self.path} was never closed: its recorder is still running or died",
                hint=f"its first {counted(self.n_steps, 'step')} can be read; "
                "record it again to have it whole",
            )
        if self.status == "failed":
            raise TraceIncomplete(
                f"{self.path}: its recorder failed at step {self.n_steps}: {self.reason}",
                hint="record it again",
            )

    @cached_property
    def requests(self) -> tuple[Request, ...]:
        """The requests in effect, as the engine gave them."""
        attributes = self._chunks.attributes("requests/zarr.json")
        count = len(attributes["ids"])
        arrays = {
            path: self._chunks.array(spec, count)
            for path, spec in REQUEST_ARRAYS.items()
            if path != "requests/prompt"
        }
        tokens = int(arrays["requests/prompt_stop"][-1]) if count else 0
        arrays["requests/prompt"] = self._chunks.array(REQUEST_ARRAYS["requests/prompt"], tokens)
        return requests_from_arrays(arrays, attributes)

    def column(self, path: str) -> np.ndarray:
        """A whole array of steps, events, slices, rows, samples or kernels, such as `steps/padded_rows`."""
        if path not in self._columns:
            spec = self._specs[path]
            whole = self._chunks.array(spec, self._stored[spec.count])
            self._columns[path] = whole[: self.counts[spec.count]]
        return self._columns[path]

    def attached(self, name: str) -> bytes | None:
        """What the recorder kept under `name`; None where nothing was."""
        key = f"attached/{name}"
        return self._chunks.file(key) if key in self._chunks.digests else None

    @property
    def step_seconds(self) -> np.ndarray:
        """Wall time of each step, float64."""
        return self.column("steps/seconds")

    def samples(self) -> Samples:
        """Every sample."""
        names = [name for name in Samples.__slots__ if name != "finish"]
        columns = {name: self.column(f"samples/{name}") for name in names}
        return Samples(**columns, finish=np.array(self._finish)[self.column("samples/finish")])

    def steps(self) -> Iterator[Step]:
        """The steps as they were run, with the events decided for them."""
        names = self._request_ids
        columns = ("request", "start", "stop", "kind", "samples", "first_block")
        starts = [*self.column("steps/slice_start").tolist(), self.counts["slices"]]
        for first in range(0, self.n_steps, _BLOCK):
            last = min(first + _BLOCK, self.n_steps)
            base = starts[first]
            parts = zip(
                *(self.column(f"slices/{name}")[base : starts[last]].tolist() for name in columns),
                strict=True,
            )
            slices = [
                Slice(names[of], a, b, KINDS[kind], takes, block) for of, a, b, kind, takes, block in parts
            ]
            for index in range(first, last):
                events = tuple(e for e in self._events.get(index, ()) if e.kind is not EventKind.FINISHED)
                yield Step(index, tuple(slices[starts[index] - base : starts[index + 1] - base]), events)

    def finished(self, step: int) -> tuple[Event, ...]:
        """The requests that finished in a step."""
        return tuple(event for event in self._events.get(step, ()) if event.kind is EventKind.FINISHED)

    def kernels_of(self, step: int) -> tuple[str, ...]:
        """The kernel that ran for each op of `ops` in a step, "" where the op did not run."""
        codes = self.column("kernels/configurations")[self.column("steps/kernel_table")[step]]
        return tuple(self._kernels[code] for code in codes)

    def taken_tokens(self) -> dict[str, list[int]]:
        """By request id the tokens it went on with, in order of position; of one sampled twice the latest."""
        latest: list[dict[int, int]] = [{} for _ in self.requests]
        samples = (self.column(f"samples/{name}").tolist() for name in ("request", "position", "taken"))
        for request, position, token in zip(*samples, strict=True):
            latest[request][position] = token
        return {
            name: [tokens[position] for position in sorted(tokens)]
            for name, tokens in zip(self._request_ids, latest, strict=True)
        }

    def fingerprints(self, start: int, stop: int, rank: int = 0, *, checked: bool = True) -> np.ndarray:
        """Fingerprints of rows [start, stop), uint64 [stop - start, ops]; 0 where none was recorded.

        Not `checked`, they are as the store has them, whatever the digests say.
        """
        return self._rows_of(f"fingerprints/{rank}", start, stop, rank, checked)

    def vouched_fingerprints(self, chunk: int, rows: np.ndarray, rank: int = 0) -> np.ndarray | None:
        """Rows of a chunk of fingerprints, counted from its first and ascending, uint64 [rows, ops].

        They alone are read; None where the chunk's digest was not looked at yet.
        """
        spec = self._specs[f"fingerprints/{rank}"]
        return self._chunks.rows(spec, chunk, rows) if self._chunks.vouched(spec, chunk) else None

    @property
    def has_sketches(self) -> bool:
        """Were sketches kept?"""
        return self._sketch_parts > 0

    def sketches(self, start: int, stop: int) -> np.ndarray:
        """Rank 0's sketches of rows [start, stop), float32 [stop - start, ops, parts]; NaN where none is.

        Raises ValueError for a trace that has none at all.
        """
        if not self.has_sketches:
            raise ValueError(f"{self.path} has no sketches")
        flat = self._rows_of("sketches/0", start, stop, 0)
        return flat.reshape(len(flat), len(self.ops), self._sketch_parts)

    def fingerprint_digest(self, rank: int, chunk: int) -> str | None:
        """The digest of a chunk of fingerprints: equal digests, equal rows. None for one that is not full.

        The chunk is not read, only seen to be there and whole: TraceCorrupt if it is not.
        """
        if (chunk + 1) * self.fingerprint_chunk_rows > self.n_rows:
            return None
        spec = self._specs[f"fingerprints/{rank}"]
        self._chunks.present(spec.key(chunk), spec.chunk * spec.row_bytes)
        return self._chunks.digests[spec.key(chunk)]

    def _rows_of(self, path: str, start: int, stop: int, rank: int, checked: bool = True) -> np.ndarray:
        """Rows [start, stop) of an array that has a row for each row of the trace."""
        if not (0 <= start <= stop <= self.n_rows and 0 <= rank < self.ranks):
            raise ValueError(
                f"rows {start}:{stop} of rank {rank} are not among {self.n_rows} rows, {self.ranks} ranks"
            )
        spec = self._specs[path]
        return rows_of_chunks(
            lambda chunk: self._latest_chunk(path, chunk, checked),
            spec.chunk,
            start,
            stop,
            np.empty(spec.shape(0), spec.dtype),
        )

    def _latest_chunk(self, path: str, chunk: int, checked: bool) -> np.ndarray:
        """A chunk of an array; the latest checked one of each array stays in memory."""
        if not checked:
            return self._chunks.chunk(self._specs[path], chunk, self._stored["rows"], checked=False)
        if self._latest.get(path, (-1, None))[0] != chunk:
            self._latest[path] = chunk, self._chunks.chunk(self._specs[path], chunk, self._stored["rows"])
        return self._latest[path][1]

    @cached_property
    def _request_ids(self) -> list[str]:
        return [request.id for request in self.requests]

    @cached_property
    def _events(self) -> dict[int, list[Event]]:
        columns = (self.column(f"events/{name}").tolist() for name in ("step", "request", "kind", "tokens"))
        events: dict[int, list[Event]] = {}
        for step, request, kind, tokens in zip(*columns, strict=True):
            events.setdefault(step, []).append(Event(EVENT_KINDS[kind], self._request_ids[request], tokens))
        return events

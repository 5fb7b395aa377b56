"""Chunks read from a store, each checked against its digest the first time.

A trace that was never closed has a digest for every full chunk, and for an unfinished one the digest of the
rows its commit marker covers: rows that came after may be there, and are not read. Those rows are in the
chunk's own file if the recorder got so far, else in TAIL. Of ranks that were ahead of the marker the digests
cover what they had flushed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from detrec.errors import TraceCorrupt
from detrec.recorder.digests import digest
from detrec.recorder.schema import TAIL, ArraySpec, tail_layout
from detrec.recorder.store import Store


class CheckedChunks:
    """`root`: a trace's attributes. `flushed`: by array path rows that digests cover, where it is not all."""

    def __init__(self, store: Store, root: Mapping[str, Any], specs: Iterable[ArraySpec]) -> None:
        self.digests: Mapping[str, str] = root["digests"]
        self.flushed: Mapping[str, int] = root.get("flushed", {})
        # by array path: rows of its unfinished chunk and their digest
        self._tails: Mapping[str, Sequence[Any]] = root["tails"]
        self._store = store
        self._checked: set[str] = set()
        self._offsets = tail_layout(specs)[0]
        self._tail_file: bytes | None = None

    def file(self, key: str) -> bytes:
        """A listed file, checked."""
        data = self._read(key)
        if key not in self._checked:
            if key not in self.digests:
                raise TraceCorrupt(f"{self._store.name}: {key}: has no digest")
            if digest(data) != self.digests[key]:
                raise TraceCorrupt(f"{self._store.name}: {key}: its bytes are not those that were recorded")
            self._checked.add(key)
        return data

    def attributes(self, key: str) -> dict[str, Any]:
        """The attributes in a group's metadata file."""
        return dict(json.loads(self.file(key))["attributes"])

    def chunk(self, spec: ArraySpec, index: int, rows: int, *, checked: bool = True) -> np.ndarray:
        """The rows of a chunk of an array that has `rows` rows; no digest is looked at unless `checked`."""
        filled = min(rows - index * spec.chunk, spec.chunk)
        there = min(self.flushed.get(spec.path, rows) - index * spec.chunk, spec.chunk)
        key = spec.key(index)
        if there < spec.chunk and spec.path in self._tails:
            return self._tail(spec, key, there)[:filled]
        data = self.file(key) if checked else self._read(key)
        try:
            return spec.decode(data)[:filled]
        except ValueError as error:
            raise TraceCorrupt(f"{self._store.name}: {key}: cannot be decoded: {error}") from error

    def vouched(self, spec: ArraySpec, index: int) -> bool:
        """Was the digest of a chunk looked at already, and is its file no longer written to?"""
        return spec.path not in self._tails and spec.key(index) in self._checked

    def rows(self, spec: ArraySpec, index: int, rows: np.ndarray) -> np.ndarray:
        """Some rows of an uncompressed chunk that is `vouched` for, counted from its first and ascending:
        they alone are read.
        """
        key = spec.key(index)
        begins = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        ends = np.append(begins[1:], len(rows)) - 1
        ranges = zip(
            (rows[begins] * spec.row_bytes).tolist(),
            ((rows[ends] + 1) * spec.row_bytes).tolist(),
            strict=True,
        )
        data = self._store.parts(key, [*ranges])
        if data is None or len(data) != len(rows) * spec.row_bytes:
            raise TraceCorrupt(f"{self._store.name}: {key}: is missing or cut off")
        return np.frombuffer(data, spec.dtype).reshape(spec.shape(len(rows)))

    def array(self, spec: ArraySpec, rows: int) -> np.ndarray:
        """A whole array of `rows` rows, read-only."""
        out = np.empty(spec.shape(rows), spec.dtype)
        for index in range(spec.chunks(rows)):
            part = self.chunk(spec, index, rows)
            out[index * spec.chunk : index * spec.chunk + len(part)] = part
        out.flags.writeable = False
        return out

    def _tail(self, spec: ArraySpec, key: str, filled: int) -> np.ndarray:
        try:
            rows = self._unfinished(spec, key)[:filled]
        except ValueError as error:
            raise TraceCorrupt(f"{self._store.name}: {key}: cannot be decoded: {error}") from error
        if key not in self._checked:
            if [filled, digest(rows.tobytes())] != list(self._tails[spec.path]):
                raise TraceCorrupt(f"{self._store.name}: {key}: its rows are not those that were committed")
            self._checked.add(key)
        return rows

    def _unfinished(self, spec: ArraySpec, key: str) -> np.ndarray:
        if not spec.compressed:
            return spec.decode(self._read(key))
        data = self._store.read(key)
        if data is not None:
            return spec.decode(data)
        if self._tail_file is None:
            self._tail_file = self._read(TAIL)
        start = self._offsets[spec.path]
        part = self._tail_file[start : start + spec.chunk * spec.row_bytes]
        if len(part) < spec.chunk * spec.row_bytes:
            raise ValueError(f"{TAIL} is cut off")
        return np.frombuffer(part, spec.dtype).reshape(spec.shape(spec.chunk))

    def present(self, key: str, size: int) -> None:
        """Raise TraceCorrupt unless the file is there with `size` bytes; its content is not looked at."""
        found = self._store.size(key)
        if found is None:
            raise TraceCorrupt(f"{self._store.name}: {key}: is missing")
        if found != size:
            raise TraceCorrupt(f"{self._store.name}: {key}: has {found} bytes, {size} were recorded")

    def _read(self, key: str) -> bytes:
        data = self._store.read(key)
        if data is None:
            raise TraceCorrupt(f"{self._store.name}: {key}: is missing")
        return data

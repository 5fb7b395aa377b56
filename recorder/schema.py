"""What a trace is made of: its arrays, their types, and where their bytes lie.

run.zarr is a zarr v3 group that zarr-python and xarray open. detrec writes and reads the chunks itself: it
answers for every byte of them, and a commit of thirty arrays takes milliseconds. Until a trace is closed its
growing arrays say that they are empty, and only detrec's commit marker knows better. To change anything here
is to change the format, and to bump FORMAT_VERSION.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numcodecs.zstd import Zstd

from detrec.engines.base import EventKind, Kind, OpKind

FORMAT_VERSION = 1

KINDS = (Kind.PREFILL, Kind.DECODE)
EVENT_KINDS = (EventKind.PREEMPTED, EventKind.HIT, EventKind.FINISHED)
"""Codes of `slices/kind` and `events/kind` are indices of these."""

_LEVEL = 1
_ZSTD = Zstd(level=_LEVEL)
_CHUNK_BYTES = 1 << 20
_MIN_CHUNK_ROWS, _MAX_CHUNK_ROWS = 64, 16384

_GROUPS: dict[str, tuple[int, dict[str, str]]] = {
    "steps": (
        4096,
        {
            "row_start": "int64",
            "slice_start": "int64",
            "seconds": "float64",
            "kernel_table": "int32",
            "padded_rows": "int32",
            "graph_bucket": "int32",
        },
    ),
    "events": (4096, {"step": "int32", "request": "int32", "kind": "int8", "tokens": "int32"}),
    "slices": (
        16384,
        {
            "step": "int32",
            "request": "int32",
            "start": "int32",
            "stop": "int32",
            "kind": "int8",
            "samples": "bool",
            "first_block": "int32",
        },
    ),
    "rows": (65536, {"step": "int32", "request": "int32", "position": "int32", "token": "int32"}),
    "samples": (
        16384,
        {
            "step": "int32",
            "request": "int32",
            "position": "int32",
            "token": "int32",
            "taken": "int32",
            "logprob": "float64",
            "margin": "float64",
            "seed": "uint64",
            "counter": "uint64",
            "finish": "int8",
        },
    ),
}
GROUPS = ("requests", *_GROUPS, "fingerprints", "kernels")
COUNTS = (*_GROUPS, "configurations")
"""What the commit marker counts."""

TAIL = "tail"
"""While a trace is recorded: the unfinished chunks of all compressed arrays, as they are in memory."""

_FLAGS: dict[str, Sequence[str]] = {"slices/kind": KINDS, "events/kind": EVENT_KINDS}


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array: [rows] where `width` is 0, else [rows, width], cut into chunks of `chunk` rows.

    `count` names the entry of the commit marker that is its length ("" for the arrays of `requests`). `rank`
    is the rank that writes it.
    """

    path: str
    dtype: str
    dims: tuple[str, ...]
    chunk: int
    count: str
    width: int = 0
    compressed: bool = True
    rank: int = 0

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return np.dtype(self.dtype).itemsize * (self.width or 1)

    def shape(self, rows: int) -> tuple[int, ...]:
        """The shape of `rows` rows."""
        return (rows, self.width) if self.width else (rows,)

    def chunks(self, rows: int) -> int:
        """How many chunks `rows` rows take."""
        return -(-rows // self.chunk)

    def key(self, chunk: int) -> str:
        """The file of a chunk."""
        return f"{self.path}/c/{chunk}/0" if self.width else f"{self.path}/c/{chunk}"

    def encode(self, chunk: np.ndarray) -> bytes:
        """The bytes of a whole chunk, as the metadata says they are stored."""
        return bytes(_ZSTD.encode(chunk)) if self.compressed else chunk.tobytes()

    def decode(self, data: bytes) -> np.ndarray:
        """The chunk stored as `data`, read-only. ValueError where `data` is not a chunk."""
        if self.compressed:
            out = np.empty(self.shape(self.chunk), np.dtype(self.dtype).newbyteorder("<"))
            try:
                # into memory of the right size: a broken header may claim any size
                _ZSTD.decode(data, out)
            except (RuntimeError, ValueError, MemoryError) as error:
                raise ValueError(f"not a zstd frame of {out.nbytes} bytes") from error
            out.flags.writeable = False
            return out
        if len(data) != self.chunk * self.row_bytes:
            raise ValueError(f"{len(data)} bytes, expected {self.chunk * self.row_bytes}")
        return np.frombuffer(data, self.dtype).reshape(self.shape(self.chunk))

    def metadata(self, rows: int) -> bytes:
        """The array's zarr.json."""
        codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
        if self.compressed:
            codecs.append({"name": "zstd", "configuration": {"level": _LEVEL, "checksum": False}})
        attributes: dict[str, Any] = {}
        if self.path in _FLAGS:
            names = _FLAGS[self.path]
            attributes = {"flag_values": list(range(len(names))), "flag_meanings": " ".join(names)}
        grid = {"chunk_shape": list(self.shape(self.chunk))}
        array = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape(rows)),
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": grid},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": np.zeros((), self.dtype).item(),
            "codecs": codecs,
            "attributes": attributes,
            "dimension_names": list(self.dims),
            "storage_transformers": [],
        }
        return json.dumps(array).encode()


def group_metadata(attributes: Mapping[str, Any]) -> bytes:
    """The zarr.json of a group below the root."""
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}).encode()


def fingerprint_chunk_rows(ops: int) -> int:
    """Rows of a fingerprint chunk: a power of two that gives 2 to 4 MiB, less where ops are few."""
    rows = _MAX_CHUNK_ROWS
    while rows > _MIN_CHUNK_ROWS and rows * ops * 8 > _CHUNK_BYTES:
        rows //= 2
    return rows


def growing_arrays(ops: int, ranks: int, sketch_parts: int = 0) -> dict[str, ArraySpec]:
    """Every array that grows with the run, by path; with `sketch_parts`, the sketches' too."""
    specs = [
        ArraySpec(f"{group}/{name}", dtype, (group.removesuffix("s"),), chunk, group)
        for group, (chunk, columns) in _GROUPS.items()
        for name, dtype in columns.items()
    ]
    rows = fingerprint_chunk_rows(ops)
    for rank in range(ranks):
        path = f"fingerprints/{rank}"
        specs.append(ArraySpec(path, "uint64", ("row", "op"), rows, "rows", ops, compressed=False, rank=rank))
    if sketch_parts:
        width = ops * sketch_parts
        specs.append(
            ArraySpec("sketches/0", "float32", ("row", "op_part"), rows, "rows", width, compressed=False)
        )
    dims = ("configuration", "op")
    specs.append(ArraySpec("kernels/configurations", "int32", dims, 16, "configurations", ops))
    return {spec.path: spec for spec in specs}


def kinds_to_attributes(ops: Sequence[str], kinds: Sequence[OpKind]) -> dict[str, list[str]]:
    """Which ops the ranks do not each hold whole, as the root says it."""
    return {
        kind.value: [op for op, its in zip(ops, kinds, strict=True) if its is kind]
        for kind in (OpKind.CUT, OpKind.PARTIAL)
    }


def kinds_from_attributes(ops: Sequence[str], root: Mapping[str, Any]) -> tuple[OpKind, ...]:
    """The kind of every op; a trace of one rank names none."""
    named = {op: kind for kind in (OpKind.CUT, OpKind.PARTIAL) for op in root.get(kind.value, ())}
    return tuple(named.get(op, OpKind.REPLICATED) for op in ops)


def tail_layout(specs: Iterable[ArraySpec]) -> tuple[dict[str, int], int]:
    """Where in the file TAIL the chunk of each compressed array begins, by path, and the file's size."""
    offsets, size = {}, 0
    for spec in specs:
        if spec.compressed:
            offsets[spec.path] = size
            size += -(-spec.chunk * spec.row_bytes // 64) * 64
    return offsets, size

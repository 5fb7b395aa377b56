"""Traces in memory: built from a schedule, with cells that say where they stand until changed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from detrec.config import SamplingParams
from detrec.engines.base import SAMPLE_OPS, Event, Kind, OpKind, Request, Slice, Step
from detrec.recorder.schema import EVENT_KINDS, KINDS

OPS = ("embedding", "0.qkv", "0.attn", "0.output", "1.qkv", "1.attn", "1.output", "logits", "sampled")


@dataclass
class FakeTrace:
    """What compare reads of a TraceReader. `cells`, uint64 [ranks, rows, ops], may be changed by a test."""

    requests: tuple[Request, ...]
    columns: dict[str, np.ndarray]
    cells: np.ndarray
    drawn: SimpleNamespace
    ops: tuple[str, ...] = OPS
    status: str = "complete"
    manifest: dict[str, Any] = field(default_factory=dict)
    path: str = "fake.zarr"
    fingerprint_chunk_rows: int = 4
    digests: bool = False
    kinds: tuple[OpKind, ...] = ()
    kernels: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    read: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ranks = len(self.cells)
        self.kinds = self.kinds or (OpKind.REPLICATED,) * len(self.ops)
        self.n_rows = len(self.columns["rows/step"])
        self.n_steps = len(self.columns["steps/slice_start"])
        self.n_samples = len(self.drawn.step)
        for name in ("step", "request", "position", "token"):
            setattr(self, f"row_{name}", self.columns[f"rows/{name}"])

    def column(self, path: str) -> np.ndarray:
        return self.columns[path]

    def samples(self) -> SimpleNamespace:
        return self.drawn

    def fingerprints(self, start: int, stop: int, rank: int = 0, *, checked: bool = True) -> np.ndarray:
        assert 0 <= start <= stop <= self.n_rows
        self.read.append((start, stop))
        return self.cells[rank, start:stop]

    def fingerprint_digest(self, rank: int, chunk: int) -> str | None:
        rows = self.cells[
            rank, chunk * self.fingerprint_chunk_rows : (chunk + 1) * self.fingerprint_chunk_rows
        ]
        whole = self.digests and len(rows) == self.fingerprint_chunk_rows
        return rows.tobytes().hex() if whole else None

    def kernels_of(self, step: int) -> tuple[str, ...]:
        return self.kernels.get(step, ("kernel",) * len(self.ops))

    def at(self, request: str, position: int, nth: int = -1) -> int:
        """The row of a place; of several the last, or the nth."""
        number = [r.id for r in self.requests].index(request)
        found = np.flatnonzero((self.row_request == number) & (self.row_position == position))
        return int(found[nth])

    def change(self, request: str, position: int, op: str, rank: int = 0, nth: int = -1, by: int = 1) -> None:
        """Another fingerprint in one cell."""
        self.cells[rank, self.at(request, position, nth), self.ops.index(op)] += np.uint64(by << 32)


def part(request: str, start: int, stop: int, samples: bool = True, kind: Kind | None = None) -> Slice:
    """A slice; one token long it decodes."""
    return Slice(request, start, stop, kind or (Kind.DECODE if stop - start == 1 else Kind.PREFILL), samples)


def place(request: int, position: int, op: int, rank: int) -> int:
    """The fingerprint of an unchanged cell."""
    return 1 + op + 16 * (rank + 4 * (position + 256 * request))


def fake_trace(
    steps: Iterable[tuple[Sequence[Slice], Sequence[Event]] | Sequence[Slice]],
    *,
    ids: Sequence[str] = ("r0", "r1", "r2"),
    ops: Sequence[str] = OPS,
    ranks: int = 1,
    token: Callable[[str, int], int] = lambda request, position: position + 1,
    **attributes: Any,
) -> FakeTrace:
    """A run of `steps`, each its slices, or its slices and events; every cell of every row recorded."""
    run = [_step(index, given) for index, given in enumerate(steps)]
    number = {name: index for index, name in enumerate(ids)}
    rows = [(s.index, number[p.request], at) for s in run for p in s.slices for at in range(p.start, p.stop)]
    draws = [(s.index, number[p.request], p.stop - 1) for s in run for p in s.slices if p.samples]
    step, request, position = _columns(rows, 3)
    slices = [
        (number[p.request], p.start, p.stop, KINDS.index(p.kind), p.samples) for s in run for p in s.slices
    ]
    happened = [
        (s.index, number[e.request], EVENT_KINDS.index(e.kind), e.tokens) for s in run for e in s.events
    ]
    columns = {
        "rows/step": step,
        "rows/request": request,
        "rows/position": position,
        "rows/token": np.array([token(ids[r], p) for _, r, p in rows], np.int32),
        "steps/slice_start": np.cumsum([0, *(len(s.slices) for s in run)])[:-1],
        **_named("slices", ("request", "start", "stop", "kind", "samples"), slices),
        **_named("events", ("step", "request", "kind", "tokens"), happened),
    }
    drawn = _drawn(draws, [token(ids[r], p + 1) for _, r, p in draws])
    requests = tuple(Request(name, (1, 2), SamplingParams(seed=42)) for name in ids)
    return FakeTrace(requests, columns, _cells(rows, draws, ops, ranks), drawn, tuple(ops), **attributes)


def _step(index: int, given: tuple[Sequence[Slice], Sequence[Event]] | Sequence[Slice]) -> Step:
    with_events = isinstance(given, tuple) and len(given) == 2 and _events(given[1])
    slices, events = given if with_events else (given, ())
    return Step(index, tuple(slices), tuple(events))


def _events(given: Any) -> bool:
    return isinstance(given, Sequence) and all(isinstance(event, Event) for event in given)


def _drawn(draws: list[tuple[int, int, int]], tokens: list[int]) -> SimpleNamespace:
    step, request, position = _columns(draws, 3)
    token = np.array(tokens, np.int32)
    return SimpleNamespace(
        step=step,
        request=request,
        position=position,
        token=token,
        taken=token,
        logprob=np.full(len(draws), -1.0),
        margin=np.full(len(draws), 0.25),
        seed=np.full(len(draws), 42, np.uint64),
        counter=position.astype(np.uint64),
    )


def _cells(
    rows: list[tuple[int, int, int]], draws: list[tuple[int, int, int]], ops: Sequence[str], ranks: int
) -> np.ndarray:
    cells = np.zeros((ranks, len(rows), len(ops)), np.uint64)
    sampling = set(draws)
    for rank in range(ranks):
        for row, (step, request, position) in enumerate(rows):
            for op, name in enumerate(ops):
                if name not in SAMPLE_OPS or (step, request, position) in sampling:
                    number = OPS.index(name) if name in OPS else 15
                    cells[rank, row, op] = place(request, position, number, rank)
    return cells


def _columns(rows: list[tuple], width: int) -> list[np.ndarray]:
    table = np.array(rows, np.int32).reshape(len(rows), width)
    return [table[:, column].copy() for column in range(width)]


def _named(group: str, names: Sequence[str], rows: list[tuple]) -> dict[str, np.ndarray]:
    return {f"{group}/{name}": c for name, c in zip(names, _columns(rows, len(names)), strict=True)}

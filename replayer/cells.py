"""Cells of matched rows compared in blocks, so that memory does not grow with the trace.

A cell is one op of one row in one lane: on one rank, as a rule (`lanes.py`). It is compared where both runs
recorded it, missing where it should be there and at most one did. A chunk whose digests are equal in both
runs is not read: its cells count as equal.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from detrec.replayer.columns import Columns
from detrec.replayer.divergence import DivergentRows
from detrec.replayer.gather import Sides
from detrec.replayer.step_map import StepMap
from detrec.replayer.trace import Trace

BLOCK_BYTES = 8 << 20
# rows of one chunk that lie within so many chunks of the other run are still in its cache when next needed
_CLOSE = 3


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows side by side, `recorded` in ascending order, and where they stand."""

    recorded: np.ndarray
    replayed: np.ndarray
    request: np.ndarray
    generation: np.ndarray
    position: np.ndarray

    def __getitem__(self, part: slice) -> "Pairs":
        names = Pairs.__slots__
        return Pairs(*(getattr(self, name)[part] for name in names))

    def __len__(self) -> int:
        return len(self.recorded)


@dataclass(slots=True)
class Cells:
    """Counts of cells. `unread` of the compared ones are equal by the digest of their chunk."""

    compared: int = 0
    divergent: int = 0
    missing: int = 0
    unread: int = 0


@dataclass(frozen=True, slots=True)
class _Group:
    """Ops that run on the same rows: `ops` indexes the compared columns; `mask` is bool [ops, lanes]."""

    pairs: Pairs
    ops: np.ndarray
    mask: np.ndarray


def compare_cells(
    recorded: Trace,
    replayed: Trace,
    columns: Columns,
    rows: Pairs,
    samples: Pairs,
    mask: np.ndarray,
    *,
    steps: StepMap | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    sighted: Callable[[DivergentRows], None] | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> tuple[Cells, DivergentRows]:
    """Compare the cells of `rows`, and of `samples` for the ops that run on rows that sample.

    `mask`, bool [ops, lanes], says which columns either run records; a cell there that neither has is
    missing. `steps` is told where cells differ or are missing, `sighted` once, of the first rows that were
    found to differ.
    """
    groups = [
        _Group(pairs, np.flatnonzero(which), mask[which])
        for pairs, which in ((rows, ~columns.samples), (samples, columns.samples))
    ]
    same = _equal_chunks(recorded, replayed, groups)
    cells, found = Cells(), []
    size = recorded.fingerprint_chunk_rows
    with Sides(recorded, replayed, columns) as sides:
        at_most = max(block_bytes // max(sides.row_bytes * size, 1), 1)
        for chunk, end in _blocks(same, groups[0].pairs, size, at_most):
            for group in groups:
                start, stop = np.searchsorted(group.pairs.recorded, (chunk * size, end * size))
                part = group.pairs[start:stop]
                if same[chunk]:
                    cells.compared += len(part) * int(group.mask.sum())
                    cells.unread += len(part) * int(group.mask.sum())
                elif len(part) and len(group.ops):
                    found += _compare_rows(cells, sides, part, group, block_bytes, steps)
            if found and sighted is not None:
                sighted(join(found))
                sighted = None
            progress(min(end * size, recorded.n_rows), recorded.n_rows)
    return cells, join(found)


def _blocks(same: list[bool], pairs: Pairs, size: int, at_most: int) -> Iterator[tuple[int, int]]:
    """Recorded chunks [start, stop) to be read at once.

    One where its rows lie close together in the replay too; else as many as may be, so that replayed chunks
    are read once for all of them.
    """
    edges = np.searchsorted(pairs.recorded, np.arange(len(same) + 1) * size)
    close = [
        same[chunk] or _spread(pairs.replayed[a:b]) <= _CLOSE * size
        for chunk, (a, b) in enumerate(pairwise(edges))
    ]
    chunk = 0
    while chunk < len(same):
        end = chunk + 1
        while not close[chunk] and end < min(chunk + at_most, len(same)) and not close[end]:
            end += 1
        yield chunk, end
        chunk = end


def _spread(rows: np.ndarray) -> int:
    return int(rows.max() - rows.min()) if len(rows) else 0


def _equal_chunks(recorded: Trace, replayed: Trace, groups: list[_Group]) -> list[bool]:
    """For every recorded chunk: do its pairs lie alike in one replayed chunk with equal digests?"""
    size = recorded.fingerprint_chunk_rows
    n_chunks = -(-recorded.n_rows // size)
    same = [False] * n_chunks
    if (recorded.ops, recorded.ranks, size) != (
        replayed.ops,
        replayed.ranks,
        replayed.fingerprint_chunk_rows,
    ):
        return same
    edges = [np.searchsorted(group.pairs.recorded, np.arange(n_chunks + 1) * size) for group in groups]
    shifts = [group.pairs.replayed - group.pairs.recorded for group in groups]
    for chunk in range(n_chunks):
        parts = [shift[edge[chunk] : edge[chunk + 1]] for shift, edge in zip(shifts, edges, strict=True)]
        found = {int(end) for part in parts if len(part) for end in (part.min(), part.max())}
        if len(found) != 1:
            continue
        shift = found.pop()
        digests = [
            (
                recorded.fingerprint_digest(rank, chunk),
                replayed.fingerprint_digest(rank, chunk + shift // size),
            )
            for rank in range(recorded.ranks)
            if shift % size == 0
        ]
        same[chunk] = bool(digests) and all(ours is not None and ours == theirs for ours, theirs in digests)
    return same


def _compare_rows(
    cells: Cells, sides: Sides, pairs: Pairs, group: _Group, block_bytes: int, steps: StepMap | None
) -> list[DivergentRows]:
    """Compare `pairs` in parts: a stored chunk may be larger than memory is meant to be."""
    size = max(block_bytes // max(sides.row_bytes, 1), 1)
    found = []
    for start in range(0, len(pairs), size):
        part = pairs[start : start + size]
        # where the last rows differed these will too, and would be read twice
        checked = sides.differed
        left, right = sides.take(part.recorded, part.replayed, group.ops, checked=checked)
        sides.differed = not (np.array_equal(left, right) and left.min() > 0)
        if not sides.differed:
            cells.compared += left.size
            continue
        if not checked:
            left, right = sides.take(part.recorded, part.replayed, group.ops)
        rows = _compare_block(cells, left, right, part, group, steps)
        if len(rows):
            found.append(rows)
    return found


def _compare_block(
    cells: Cells,
    left: np.ndarray,
    right: np.ndarray,
    pairs: Pairs,
    group: _Group,
    steps: StepMap | None,
) -> DivergentRows:
    differ = left != right
    here, there = left != 0, right != 0
    both = here & there
    missing = (here | there | group.mask) & ~both
    cells.compared += int(np.count_nonzero(both))
    cells.missing += int(np.count_nonzero(missing))
    differ &= both
    if steps is not None:
        steps.note(pairs.recorded, group.ops, differ, missing)
    at = np.flatnonzero(differ.any(axis=(1, 2)))
    differ = differ[at]
    total = differ.sum(axis=(1, 2), dtype=np.int32)
    cells.divergent += int(total.sum())
    first = differ.any(axis=2).argmax(axis=1) if len(at) else np.zeros(0, np.int64)
    return DivergentRows(
        pairs.recorded[at].astype(np.int32),
        pairs.replayed[at].astype(np.int32),
        pairs.request[at],
        pairs.generation[at],
        pairs.position[at],
        group.ops[first].astype(np.int32),
        differ[np.arange(len(at)), first].sum(axis=1, dtype=np.int32),
        total,
    )


def join(found: Sequence[DivergentRows]) -> DivergentRows:
    """All of them, in the order given."""
    if not found:
        none = np.zeros(0, np.int32)
        return DivergentRows(none, none, none, none, none, none, none, none)
    return DivergentRows(
        *(np.concatenate([getattr(part, name) for part in found]) for name in DivergentRows.__slots__)
    )

"""The states of the cells of some rows: read where it must be, known without reading where it can be."""

from dataclasses import dataclass

import numpy as np

from detrec.replayer.survey.cell import State
from detrec.replayer.survey.pairing import Pairing
from detrec.replayer.survey.side import Side

_BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Born:
    """Which cells were born where they are: their recorded rows and ops as one number each, ascending."""

    keys: np.ndarray
    ops: int

    def of(self, rows: np.ndarray) -> np.ndarray:
        """bool [rows, ops]."""
        keys = rows.astype(np.int64)[:, None] * self.ops + np.arange(self.ops)
        at = np.searchsorted(self.keys, keys)
        found = at < len(self.keys)
        found[found] = self.keys[at[found]] == keys[found]
        return found


def states_of_pairs(
    sides: tuple[Side, Side],
    pairs: Pairing,
    born: Born,
    rows: np.ndarray,
    others: np.ndarray,
    rank: int | None = None,
) -> np.ndarray:
    """uint8 [rows, ops], the worst of all ranks where `rank` is None.

    `rows` and `others` are rows of either run, -1 where one has none: MISSING where that is `lost`, else
    ABSENT. Rows in chunks of equal digests are not read.
    """
    out = np.zeros((len(rows), len(pairs.columns.names)), np.uint8)
    for start in range(0, len(rows), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        for each in range(pairs.columns.ranks) if rank is None else (rank,):
            states = _block(sides, pairs, born, rows[part], others[part], each)
            np.maximum(out[part], states, out=out[part])
    return out


def _block(
    sides: tuple[Side, Side], pairs: Pairing, born: Born, rows: np.ndarray, others: np.ndarray, rank: int
) -> np.ndarray:
    due = _due(sides, pairs, rows, others, rank)
    both = (rows >= 0) & (others >= 0)
    alone = np.flatnonzero(~both & (rows >= 0))
    due[alone] &= pairs.lost[rows[alone]][:, None]
    # where neither run has a row nothing was lost: a cached prefix, or beyond the end
    due[(rows < 0) & (others < 0)] = False
    states = np.where(due, np.uint8(State.MISSING), np.uint8(State.ABSENT))
    same = both & _same_chunks(sides, rows, others, rank)
    states[same] = np.where(due[same], np.uint8(State.EQUAL), np.uint8(State.ABSENT))
    read = np.flatnonzero(both & ~same)
    if len(read):
        ours = sides[0].take(rows[read], rank)[:, pairs.columns.recorded]
        theirs = sides[1].take(others[read], rank)[:, pairs.columns.replayed]
        found, kept = states[read], (ours != 0) & (theirs != 0)
        found[kept & (ours == theirs)] = State.EQUAL
        differ = kept & (ours != theirs)
        found[differ] = State.INHERITED
        found[differ & born.of(rows[read])] = State.BORN
        found[~kept & ((ours != 0) | (theirs != 0))] = State.MISSING
        corrupt = sides[0].is_corrupt(rows[read], rank) | sides[1].is_corrupt(others[read], rank)
        found[corrupt[:, None] & ~kept & due[read]] = State.CORRUPT
        states[read] = found
    return states


def _due(
    sides: tuple[Side, Side], pairs: Pairing, rows: np.ndarray, others: np.ndarray, rank: int
) -> np.ndarray:
    """Where a cell should be, bool [rows, ops]: ops of rows that sample are due where either run sampled."""
    drawn = np.zeros(len(rows), bool)
    for side, of in ((sides[0], rows), (sides[1], others)):
        there = of >= 0
        drawn[there] |= side.draws_from[of[there]]
    due: np.ndarray = pairs.mask[:, rank] & (~pairs.columns.samples | drawn[:, None])
    return due


def _same_chunks(sides: tuple[Side, Side], rows: np.ndarray, others: np.ndarray, rank: int) -> np.ndarray:
    """Which pairs lie at one place of chunks with equal digests, bool [rows]."""
    ours, theirs = sides
    size = ours.fingerprint_chunk_rows
    if (ours.ops, size) != (theirs.ops, theirs.fingerprint_chunk_rows):
        return np.zeros(len(rows), bool)
    alike = (rows >= 0) & (others >= 0) & (rows % size == others % size)
    same = np.zeros(len(rows), bool)
    chunks = np.stack([rows // size, others // size], axis=1)
    for here, there in np.unique(chunks[alike], axis=0).tolist():
        digest = ours.fingerprint_digest(rank, here)
        if digest is not None and digest == theirs.fingerprint_digest(rank, there):
            same |= alike & (chunks[:, 0] == here) & (chunks[:, 1] == there)
    return same


def states_alone(
    side: Side, mask: np.ndarray, samples: np.ndarray, rows: np.ndarray, rank: int | None = None
) -> np.ndarray:
    """Of one run alone, uint8 [rows, ops]: RECORDED where its columns are; nothing is read.

    `mask`: the columns it records at all, bool [ops, ranks]; `samples`: ops of rows that sample, bool [ops].
    """
    there = rows >= 0
    drawn = np.zeros(len(rows), bool)
    drawn[there] = side.draws_from[rows[there]]
    columns = mask.any(axis=1) if rank is None else mask[:, rank]
    due = there[:, None] & columns & (~samples | drawn[:, None])
    return np.where(due, np.uint8(State.RECORDED), np.uint8(State.ABSENT))

"""The states of the cells of some rows: read where it must be, known without reading where it can be."""

import numpy as np

from detrec.replayer.columns import Columns
from detrec.replayer.comparison import Comparison
from detrec.replayer.step_map import MISSING
from detrec.replayer.survey.cell import State
from detrec.replayer.survey.side import Side

_BLOCK_ROWS = 4096


class Judged:
    """What a comparison of `ops` ops said of single rows: which cells were born, and which rows need not be
    read.

    `equal`: which recorded rows have no cell that differs or is missing. `born_steps`: in which buckets of
    the comparison's map of steps a cell was born, bool [buckets, ops].
    """

    def __init__(self, comparison: Comparison, row_step: np.ndarray) -> None:
        rows, own, steps = comparison.divergent, comparison.born, comparison.steps
        row, op = rows.row[own], rows.op[own]
        self._ops = len(comparison.ops)
        self._born = np.full(len(row_step), -1, np.int32)
        self._born[row] = op
        # a row that stands beside two of the other run may have cells that were born in two ops
        other = self._born[row] != op
        self._again = row[other].astype(np.int64) * self._ops + op[other]
        self._differ = np.zeros(len(row_step), bool)
        self._differ[rows.row] = True
        self._row_step, self._steps = row_step, steps
        self._lacking = np.logical_or.reduce(steps.flags & MISSING, axis=(1, 2))
        self.born_steps = np.zeros(steps.flags.shape[:2], bool)
        self.born_steps[row_step[row] // steps.per, op] = True

    def born(self, rows: np.ndarray) -> np.ndarray:
        """Which cells of recorded `rows` were born there, bool [rows, ops]."""
        found: np.ndarray = self._born[rows][:, None] == np.arange(self._ops)
        if len(self._again):
            found |= np.isin(rows.astype(np.int64)[:, None] * self._ops + np.arange(self._ops), self._again)
        return found

    def gave_birth(self, rows: np.ndarray) -> np.ndarray:
        """Which of recorded `rows` have a cell that was born there, bool [rows]."""
        return self._born[rows] >= 0

    def equal(self, rows: np.ndarray) -> np.ndarray:
        """Which of `rows` are known to be equal wherever both runs have them, bool [rows]."""
        return ~self._differ[rows] & ~self._lacking[self._row_step[rows] // self._steps.per]


def states_of_pairs(
    sides: tuple[Side, Side],
    columns: Columns,
    mask: np.ndarray,
    lost: np.ndarray,
    judged: Judged | None,
    rows: np.ndarray,
    others: np.ndarray,
    rank: int | None = None,
) -> np.ndarray:
    """uint8 [rows, ops], the worst of all ranks where `rank` is None; a rank is a lane (`lanes.py`).

    `rows` and `others` are rows of either run, -1 where one has none: MISSING where that is `lost` (bool
    [recorded rows]), else ABSENT. `mask`: the columns that any run records, bool [ops, lanes]. What is known
    to be equal is not read; without a judgement nothing is, and what both have is RECORDED.
    """
    out = np.zeros((len(rows), len(columns.names)), np.uint8)
    for start in range(0, len(rows), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        for each in range(columns.n_lanes) if rank is None else (rank,):
            due, both = _due(sides, columns, mask[:, each], lost, rows[part], others[part])
            if judged is None:
                states = _filled(due, both, State.RECORDED)
            else:
                states = _read(sides, columns, judged, rows[part], others[part], each, due, both)
            np.maximum(out[part], states, out=out[part])
    return out


def _due(
    sides: tuple[Side, Side],
    columns: Columns,
    mask: np.ndarray,
    lost: np.ndarray,
    rows: np.ndarray,
    others: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Where a cell should be, bool [rows, ops], and which rows both runs have, bool [rows].

    Ops of rows that sample are due where either run sampled.
    """
    drawn = np.zeros(len(rows), bool)
    for side, of in ((sides[0], rows), (sides[1], others)):
        there = of >= 0
        drawn[there] |= side.draws_from[of[there]]
    due: np.ndarray = mask & (~columns.samples | drawn[:, None])
    both = (rows >= 0) & (others >= 0)
    alone = np.flatnonzero(~both & (rows >= 0))
    due[alone] &= lost[rows[alone]][:, None]
    # where neither run has a row nothing was lost: a cached prefix, or beyond the end
    due[(rows < 0) & (others < 0)] = False
    return due, both


def _filled(due: np.ndarray, rows: np.ndarray, state: State) -> np.ndarray:
    """`state` where a cell of `rows` is due, MISSING where one of another row is; uint8 [rows, ops]."""
    there = np.where(rows, np.uint8(state), np.uint8(State.MISSING))
    return np.where(due, there[:, None], np.uint8(State.ABSENT))


def _read(
    sides: tuple[Side, Side],
    columns: Columns,
    judged: Judged,
    rows: np.ndarray,
    others: np.ndarray,
    rank: int,
    due: np.ndarray,
    both: np.ndarray,
) -> np.ndarray:
    states = _filled(due, both, State.EQUAL)
    unsure = both.copy()
    unsure[both] = ~judged.equal(rows[both])
    at = np.flatnonzero(unsure)
    if not len(at):
        return states
    ours = sides[0].take_lane(rows[at], columns.lanes[0], rank, columns.recorded)
    theirs = sides[1].take_lane(others[at], columns.lanes[1], rank, columns.replayed)
    here, there = ours != 0, theirs != 0
    found = np.where(due[at] | here | there, np.uint8(State.MISSING), np.uint8(State.ABSENT))
    found[here & there] = State.EQUAL
    differ = here & there & (ours != theirs)
    found[differ] = State.INHERITED
    found[differ & judged.born(rows[at])] = State.BORN
    # where sums over ranks stand side by side, any of them may be the corrupt one
    bad = rank if columns.lanes[0].cut is None else None
    corrupt = sides[0].is_corrupt(rows[at], bad) | sides[1].is_corrupt(others[at], bad)
    found[(found == State.MISSING) & corrupt[:, None]] = State.CORRUPT
    states[at] = found
    return states


def states_alone(
    side: Side, mask: np.ndarray, samples: np.ndarray, rows: np.ndarray, rank: int | None = None
) -> np.ndarray:
    """Of one run alone, uint8 [rows, ops]: RECORDED where its columns are, CORRUPT where that is known to
    be; nothing is read.

    `mask`: the columns it records at all, bool [ops, ranks]; `samples`: ops of rows that sample, bool [ops].
    """
    there = rows >= 0
    drawn = np.zeros(len(rows), bool)
    drawn[there] = side.draws_from[rows[there]]
    columns = mask.any(axis=1) if rank is None else mask[:, rank]
    due = there[:, None] & columns & (~samples | drawn[:, None])
    states = np.where(due, np.uint8(State.RECORDED), np.uint8(State.ABSENT))
    for each in range(mask.shape[1]) if rank is None else (rank,):
        states[side.is_corrupt(rows, each)[:, None] & due] = State.CORRUPT
    return states

"""One row of both runs, op by op; and one op of a step, row by row."""

from dataclasses import dataclass

import numpy as np

from detrec.replayer.divergence import split_name
from detrec.replayer.survey.cell import Cell, State
from detrec.replayer.survey.draws import Draw, draw_of
from detrec.replayer.survey.runs import Runs
from detrec.replayer.survey.side import Side


@dataclass(frozen=True, slots=True)
class OpOfRow:
    """One op of a row. Fingerprints are 0 where a run recorded none, kernels "" where none ran.

    `ranks` holds the state on every rank. `state`, the fingerprints and `rank` are those of the rank that
    was asked for, else of the first among the worst.
    """

    op: int
    name: str
    layer: int | None
    state: State
    rank: int
    ranks: tuple[State, ...]
    recorded: int
    replayed: int
    recorded_kernel: str
    replayed_kernel: str


@dataclass(frozen=True, slots=True)
class SideOfRow:
    """Where a row stands in one run: its row, step and input token, and what was drawn from it."""

    row: int
    step: int
    token: int
    draw: Draw | None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of both runs; a side is None where that run does not have it."""

    cell: Cell
    recorded: SideOfRow | None
    replayed: SideOfRow | None
    ops: tuple[OpOfRow, ...]


@dataclass(frozen=True, slots=True)
class RowOfOp:
    """One op of one row: as in OpOfRow, without what is the same for all rows."""

    cell: Cell
    state: State
    rank: int
    recorded: int
    replayed: int


def row_of(runs: Runs, cell: Cell, rank: int | None = None) -> Row:
    """Every op of the cell's row in causal order."""
    states, prints = _read(runs, np.array([cell.row]), np.array([cell.other]), rank)
    kernels = [_kernels(runs, side, row) for side, row in _standing(runs, cell)]
    by_op, shown = states[:, 0].T.tolist(), prints[:, :, 0].tolist()
    ops = []
    for op, name in enumerate(runs.ops):
        of_ranks = tuple(State(state) for state in by_op[op])
        at = of_ranks.index(max(of_ranks))
        ops.append(
            OpOfRow(
                op,
                name,
                split_name(name)[0],
                of_ranks[at],
                at if rank is None else rank,
                of_ranks,
                shown[0][at][op],
                shown[1][at][op],
                kernels[0][op],
                kernels[1][op],
            )
        )
    recorded, replayed = (_side(side, row) for side, row in _standing(runs, cell))
    return Row(cell, recorded, replayed, tuple(ops))


def rows_of_op(runs: Runs, step: int, op: int, rank: int | None = None) -> tuple[RowOfOp, ...]:
    """One op of the rows of a recorded step, in the order of the batch; of an op that samples, those that
    do.
    """
    rows, others, _ = runs.step_rows(step, step + 1)
    if runs.samples_only(op):
        drawn = [
            any(row >= 0 and side.draws_from[row] for side, row in zip(runs.sides, pair, strict=False))
            for pair in zip(rows.tolist(), others.tolist(), strict=True)
        ]
        rows, others = rows[drawn], others[drawn]
    states, prints = _read(runs, rows, others, rank)
    worst = states[:, :, op].argmax(axis=0)
    each = np.arange(len(rows))
    return tuple(
        RowOfOp(runs.cell(row, other, op), State(state), at if rank is None else rank, ours, theirs)
        for row, other, state, at, ours, theirs in zip(
            rows.tolist(),
            others.tolist(),
            states[worst, each, op].tolist(),
            worst.tolist(),
            *prints[:, worst, each, op].tolist(),
            strict=True,
        )
    )


def _read(
    runs: Runs, rows: np.ndarray, others: np.ndarray, rank: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """States, uint8 [ranks, rows, ops], and both runs' fingerprints, uint64 [2, ranks, rows, ops]."""
    ranks = range(runs.ranks) if rank is None else [rank]
    prints = np.zeros((2, len(ranks), len(rows), len(runs.ops)), np.uint64)
    for i, each in enumerate(ranks):
        if runs.columns is None or runs.replayed is None:
            prints[0, i] = runs.recorded.take(rows, each)
        else:
            columns = runs.columns
            prints[0, i] = runs.recorded.take_lane(rows, columns.lanes[0], each, columns.recorded)
            prints[1, i] = runs.replayed.take_lane(others, columns.lanes[1], each, columns.replayed)
    # after the prints: what is found corrupt by reading them is shown as that
    states = np.stack([runs.states(rows, others, each) for each in ranks])
    if runs.columns is None:
        lost = (states == State.RECORDED) & (prints[0] == 0)
        corrupt = np.stack([runs.recorded.is_corrupt(rows, each) for each in ranks])
        states[lost] = State.MISSING
        states[lost & corrupt[:, :, None]] = State.CORRUPT
    return states, prints


def _standing(runs: Runs, cell: Cell) -> tuple[tuple[Side | None, int], tuple[Side | None, int]]:
    return (runs.recorded, cell.row), (runs.replayed, cell.other)


def _kernels(runs: Runs, side: Side | None, row: int) -> tuple[str, ...]:
    """By op of `runs.ops`."""
    if side is None or row < 0:
        return ("",) * len(runs.ops)
    names = side.kernels_of(int(side.row_step[row]))
    if runs.columns is None:
        return names
    columns = runs.columns
    return tuple(names[at] for at in (columns.recorded if side is runs.recorded else columns.replayed))


def _side(side: Side | None, row: int) -> SideOfRow | None:
    if side is None or row < 0:
        return None
    step, request, position = (int(of[row]) for of in (side.row_step, side.row_request, side.row_position))
    drawn = draw_of(side.samples(), step, request, position) if side.draws_from[row] else None
    return SideOfRow(row, step, int(side.row_token[row]), drawn)

"""Heat maps of runs: see `grid` for what they are."""

import numpy as np

from detrec.replayer.step_map import DIFFERS, MISSING
from detrec.replayer.survey.cell import State
from detrec.replayer.survey.grid import Grid, Lines, Window, bucketed, edges_of, lines_of
from detrec.replayer.survey.runs import Runs

_BLOCK_ROWS = 8192


def grid_of(runs: Runs, window: Window) -> Grid:
    """The heat map of a window. ValueError for a request that no run has."""
    lines = lines_of(runs.ops, window.layer)
    edges = edges_of(window.start, window.stop, window.columns)
    if window.request is None and _from_map(runs, edges):
        states = _of_steps(runs, window, edges, lines)
    else:
        states = _of_rows(runs, window, edges, lines)
    return Grid(window, states, edges, lines.labels, lines.ops, lines.layers)


def born_columns(runs: Runs, request: str | None) -> np.ndarray:
    """The positions of a request, or the steps where that is None, in which a divergence was born: ascending.

    Of runs that were compared. Where a map of steps has several to a bucket, the first of the bucket.
    """
    assert runs.judged is not None
    assert runs.comparison is not None
    if request is None:
        return np.flatnonzero(runs.judged.born_steps.any(axis=1)) * runs.comparison.steps.per
    rows = runs.rows_of(runs.recorded, request)
    return np.unique(runs.recorded.row_position[rows[runs.judged.gave_birth(rows)]])


def _of_rows(runs: Runs, window: Window, edges: np.ndarray, lines: Lines) -> np.ndarray:
    """Row by row: what differs is read."""
    out = np.zeros((len(lines.labels), len(edges) - 1), np.uint8)
    if window.request is None:
        rows, others, at = runs.step_rows(window.start, window.stop)
    else:
        rows, others = runs.places(window.request, window.start, window.stop, window.generation)
        at = np.arange(window.start, window.stop, dtype=np.int64)
    column = np.searchsorted(edges, at, side="right") - 1
    for start in range(0, len(rows), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        states = runs.states(rows[part], others[part], window.rank)
        np.maximum(out, bucketed(states, column[part], out.shape[1], lines), out=out)
    return out


def _from_map(runs: Runs, edges: np.ndarray) -> bool:
    """Does the comparison's map of steps know these columns, each as a whole?"""
    if runs.comparison is None or len(edges) < 2:
        return False
    per = runs.comparison.steps.per
    # the last column ends with the run, whose last bucket may be cut short
    return bool((edges[:-1] % per == 0).all())


def _of_steps(runs: Runs, window: Window, edges: np.ndarray, lines: Lines) -> np.ndarray:
    """Step by step, from what the comparison noted: nothing is read."""
    assert runs.comparison is not None
    assert runs.judged is not None
    assert runs.columns is not None
    first, stop = int(edges[0]), min(int(edges[-1]), runs.recorded.n_steps)
    per = runs.comparison.steps.per
    flags = runs.comparison.steps.flags[first // per : -(-stop // per)]
    states = np.zeros((stop - first, len(runs.ops)), np.uint8)
    ranks = slice(None) if window.rank is None else slice(window.rank, window.rank + 1)
    due = np.logical_or.reduce(runs.mask[:, ranks], axis=1)
    states[:, due & ~runs.columns.samples] = State.EQUAL
    drawn = _steps_that_draw(runs, first, stop)
    states[np.ix_(drawn, due & runs.columns.samples)] = State.EQUAL
    worst = np.zeros(flags.shape[:2], np.uint8)
    worst[(flags[:, :, ranks] & MISSING).any(axis=2)] = State.MISSING
    worst[(flags[:, :, ranks] & DIFFERS).any(axis=2)] = State.INHERITED
    np.maximum(states, np.repeat(worst, per, axis=0)[: len(states)], out=states)
    _mark_lost(runs, states, due, first, stop)
    _mark_corrupt(runs, states, first, stop)
    born = np.repeat(runs.judged.born_steps[first // per : -(-stop // per)], per, axis=0)[: len(states)]
    # of one rank: only where that one differs
    states[born & (states == State.INHERITED)] = State.BORN
    column = np.searchsorted(edges, np.arange(first, stop), side="right") - 1
    return bucketed(states, column, len(edges) - 1, lines)


def _steps_that_draw(runs: Runs, first: int, stop: int) -> np.ndarray:
    """Which of steps [first, stop) draw a token, bool [steps]."""
    step = runs.recorded.column("samples/step")
    a, b = np.searchsorted(step, (first, stop))
    drawn = np.zeros(stop - first, bool)
    drawn[step[a:b] - first] = True
    return drawn


def _mark_lost(runs: Runs, states: np.ndarray, due: np.ndarray, first: int, stop: int) -> None:
    """Rows that only one run has, where both should; ops that sample where they sample."""
    assert runs.columns is not None
    assert runs.replayed is not None
    on_samples = runs.columns.samples
    for side, rows in ((runs.recorded, np.flatnonzero(runs.lost)), (runs.replayed, runs.extra)):
        steps = side.row_step[rows]
        rows = rows[(steps >= first) & (steps < stop)]
        for some, ops in ((rows, due & ~on_samples), (rows[side.draws_from[rows]], due & on_samples)):
            at = np.ix_(np.unique(side.row_step[some]) - first, np.flatnonzero(ops))
            states[at] = np.maximum(states[at], np.uint8(State.MISSING))


def _mark_corrupt(runs: Runs, states: np.ndarray, first: int, stop: int) -> None:
    """Missing cells of a corrupt chunk are missing because it is."""
    for side in runs.sides:
        size = side.fingerprint_chunk_rows
        for _, chunk in list(side.corrupt):
            rows = np.arange(chunk * size, min((chunk + 1) * size, side.n_rows))
            if side is not runs.recorded:
                rows = np.flatnonzero(runs.partner // size == chunk)
            steps = np.unique(runs.recorded.row_step[rows])
            steps = steps[(steps >= first) & (steps < stop)] - first
            part = states[steps]
            part[part == State.MISSING] = State.CORRUPT
            states[steps] = part

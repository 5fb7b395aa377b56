"""Heat maps of runs: see `grid` for what they are."""

import numpy as np

from detrec.replayer.survey.grid import Grid, Window, bucketed, edges_of, lines_of
from detrec.replayer.survey.runs import Runs

_BLOCK_ROWS = 8192


def grid_of(runs: Runs, window: Window) -> Grid:
    """The heat map of a window. ValueError for a request that no run has."""
    lines = lines_of(runs.ops, window.layer)
    edges = edges_of(window.start, window.stop, window.columns)
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
    return Grid(window, out, edges, lines.labels, lines.ops, lines.layers)

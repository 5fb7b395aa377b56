"""The facts of the heat maps: states as one letter a cell, line by line."""

from typing import Any

from detrec.replayer.survey.cell import Cell, State
from detrec.replayer.survey.grid import Grid, Window
from detrec.replayer.survey.survey import Survey

COLUMNS = 160
LETTERS = {
    State.ABSENT: " ",
    State.RECORDED: ".",
    State.EQUAL: "=",
    State.MISSING: "?",
    State.CORRUPT: "!",
    State.INHERITED: "x",
    State.BORN: "B",
}
"""One letter a state, in `lines` of a map."""


def facts(survey: Survey, cell: Cell | None) -> dict[str, Any]:
    """`maps`: of all steps, and of the request that the story is about."""
    runs = survey.runs
    if runs is None or not runs.ops:
        return {"maps": []}
    found = [_map(survey.grid(Window(0, runs.recorded.n_steps, COLUMNS)))]
    if cell is not None:
        length = runs.length(cell.request)
        found.append(_map(survey.grid(Window(0, length, COLUMNS, request=cell.request))))
    return {"maps": found}


def _map(grid: Grid) -> dict[str, Any]:
    """`lines[i]` has a letter a column, see LETTERS; column j is [edges[j], edges[j + 1]) of the axis."""
    return {
        "axis": "steps" if grid.window.request is None else "positions",
        "request": grid.window.request,
        "labels": list(grid.labels),
        "edges": grid.edges.tolist(),
        "lines": ["".join(LETTERS[State(state)] for state in line) for line in grid.states.tolist()],
    }

"""What the map is of, for a place and a depth, and its windows read in a thread."""

from dataclasses import dataclass

import numpy as np

from detrec.printable import printable
from detrec.replayer.divergence import split_name
from detrec.replayer.survey.cell import Cell
from detrec.replayer.survey.grid import Lines, Window, lines_of
from detrec.replayer.survey.maps import born_columns
from detrec.replayer.survey.survey import Survey
from detrec.tui.field import Field, Shown
from detrec.tui.stand import Level


@dataclass(frozen=True, slots=True)
class Key:
    """What makes two maps one. `request` None: along the steps. `turn` counts how often all was read anew."""

    request: str | None
    layer: int | None
    rank: int | None
    turn: int


@dataclass(frozen=True, slots=True)
class Chart:
    """A map's field and where its lines lie."""

    field: Field
    lines: Lines

    def line_of(self, cell: Cell) -> int:
        """The line of the cell's op."""
        return max(int(self.lines.of[cell.op]), 0)

    def ops_of(self, line: int) -> tuple[int, int]:
        """The ops behind a line, [first, last]."""
        return self.lines.ops[line]


def chart_of(
    survey: Survey, cell: Cell, level: Level, rank: int | None, turn: int, known: Chart | None
) -> Chart:
    """The map on which `cell` is seen at `level`: steps, positions, or the ops of its layer.

    That may be one that is `known`.
    """
    runs = survey.runs
    assert runs is not None, "a cell is of some run"
    layer = None
    if level is Level.OP:
        # outside the layers there is no layer to look into: all ops
        layer = -1 if (of := split_name(runs.ops[cell.op])[0]) is None else of
    request = None if level is Level.STEP else cell.request
    key = Key(request, layer, rank, turn)
    if known is not None and known.field.key == key:
        return known
    lines = lines_of(runs.ops, layer)
    columns = runs.recorded.n_steps if request is None else runs.length(request)
    unit = "step" if request is None else "pos"
    return Chart(Field(key, lines.labels, columns, unit, _marks(survey, request)), lines)


def title_of(survey: Survey, cell: Cell, level: Level) -> str:
    """What a map shows."""
    if level is Level.STEP:
        return "Layers x steps"
    request = printable(cell.request)
    if level is Level.LAYER or survey.runs is None:
        return f"Layers x positions of {request}"
    layer = split_name(survey.runs.ops[cell.op])[0]
    what = "All ops" if layer is None else f"Ops of layer {layer}"
    return f"{what} x positions of {request}"


def _marks(survey: Survey, request: str | None) -> np.ndarray:
    """The columns in which a divergence was born."""
    runs = survey.runs
    if runs is None or runs.comparison is None:
        return np.zeros(0, np.int64)
    return born_columns(runs, request)


def window_of(survey: Survey, key: Key, start: int, stop: int, bins: int, scale: int) -> Shown:
    """States of columns [start, stop) in so many bins: the last may reach beyond the end."""
    window = Window(start, stop, bins, key.request, key.layer, key.rank)
    return Shown(key, start, stop, scale, survey.grid(window).states)


def overview_of(survey: Survey, key: Key, total: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """All columns in one line: see `Shown.overview`."""
    return window_of(survey, key, 0, total, width, 0).overview(width)

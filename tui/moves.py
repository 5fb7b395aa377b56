"""Moves: from one place of a survey to another. Pure but for what the survey reads.

Every move takes the place that the one before it came to, so that keys pressed in a row add up. ValueError,
with what to say, where there is no way to go.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from detrec.replayer.divergence import split_name
from detrec.replayer.survey.cell import Cell, Found
from detrec.replayer.survey.runs import Runs
from detrec.replayer.survey.survey import Survey
from detrec.tui.stand import Place

Move = Callable[[Survey, Place], Place]


def runs_of(survey: Survey) -> Runs:
    """The runs; ValueError where there are none to move in."""
    if survey.runs is None:
        raise ValueError(survey.problem or "there is no trace to look at")
    return survey.runs


def _cell(place: Place) -> Cell:
    if place.cell is None:
        raise ValueError("no step has been recorded: there is nothing to stand on")
    return place.cell


def start(survey: Survey, place: Place) -> Place:
    """Where a survey begins: the first divergence, else the first row there is."""
    found = survey.first()
    if found is not None:
        return replace(place, cell=found.cell)
    runs = runs_of(survey)
    for step in range(min(runs.recorded.n_steps, 64)):
        rows, others, _ = runs.step_rows(step, step + 1)
        if len(rows):
            return replace(place, cell=runs.cell(int(rows[0]), int(others[0])))
    return place


def first(survey: Survey, place: Place) -> Place:
    """To the first divergence."""
    there = _found(survey, place, survey.first(), "")
    if there == place:
        raise ValueError("this is the first divergence")
    return there


def following(survey: Survey, place: Place, *, back: bool, born_only: bool) -> Place:
    """To the next or the previous divergence."""
    runs_of(survey)
    if survey.first() is None:
        return first(survey, place)
    step = survey.previous if back else survey.next
    kind = "born divergence" if born_only else "divergence"
    return _found(
        survey,
        place,
        step(_cell(place), born_only=born_only),
        f"no {kind} {'before' if back else 'after'} this one",
    )


def _found(survey: Survey, place: Place, found: Found | None, otherwise: str) -> Place:
    if found is not None:
        return replace(place, cell=found.cell)
    if survey.other is None:
        raise ValueError(
            "one run alone: nothing to diverge from; r replays it, detrec explore RUN OTHER compares"
        )
    if survey.comparison is None:
        raise ValueError(survey.problem or "still comparing")
    raise ValueError(otherwise or "no fingerprint differs")


def goto(survey: Survey, place: Place, text: str) -> Place:
    """To the cell that a text names."""
    runs_of(survey)
    return replace(place, cell=survey.goto(text, place.cell))


def by_step(survey: Survey, place: Place, by: int) -> Place:
    """To the same op some steps further, in the same request if it has a row there."""
    here, runs = _cell(place), runs_of(survey)
    return to_step(survey, place, min(max(here.step + by, 0), runs.recorded.n_steps - 1), said=by)


def to_step(survey: Survey, place: Place, step: int, *, said: int = 0) -> Place:
    """To a step, in the same request if it has a row there; `said`: the way that was wanted."""
    here, runs = _cell(place), runs_of(survey)
    if said and step == here.step:
        raise ValueError(f"step {step} is the {'last' if said > 0 else 'first'} one")
    rows, others, _ = runs.step_rows(step, step + 1)
    if not len(rows):
        raise ValueError(f"step {step} has no rows")
    own = np.flatnonzero(_requests(runs, rows, others) == runs.ids.index(here.request))
    at = int(own[0]) if len(own) else 0
    return replace(place, cell=runs.cell(int(rows[at]), int(others[at]), here.op))


def _requests(runs: Runs, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The request of each row, as an index of `runs.ids`."""
    out = np.zeros(len(rows), np.int64)
    for side, of in zip(runs.sides, (rows, others), strict=False):
        there = of >= 0
        out[there] = runs.numbers(side)[side.row_request[of[there]]]
    return out


def by_layer(survey: Survey, place: Place, by: int) -> Place:
    """To the same op of another layer; from outside the layers to the nearest."""
    here, runs = _cell(place), runs_of(survey)
    layer, name = split_name(runs.ops[here.op])
    order = range(here.op + by, len(runs.ops) if by > 0 else -1, by)
    for op in order:
        other, its_name = split_name(runs.ops[op])
        if other is not None and other != layer and (layer is None or its_name == name):
            return replace(place, cell=replace(here, op=op))
    raise ValueError(f"no layer {'after' if by > 0 else 'before'} this one")


def by_rank(survey: Survey, place: Place, by: int) -> Place:
    """To another rank; before the first is the worst of all of them."""
    runs = runs_of(survey)
    if runs.ranks < 2:
        raise ValueError("there is one rank only")
    rank = (-1 if place.rank is None else place.rank) + by
    if not -1 <= rank < runs.ranks:
        raise ValueError(f"there are ranks 0 to {runs.ranks - 1}, and the worst of them")
    return replace(place, rank=None if rank < 0 else rank)


def by_request(survey: Survey, place: Place, by: int) -> Place:
    """To another request that has rows, at its first position that has one."""
    here, runs = _cell(place), runs_of(survey)
    at = runs.ids.index(here.request) + by
    while 0 <= at < len(runs.ids):
        if runs.length(runs.ids[at]):
            return replace(place, cell=survey.goto(runs.ids[at], here))
        at += by
    raise ValueError(f"no request {'after' if by > 0 else 'before'} {here.request}")


def to_position(survey: Survey, place: Place, position: int) -> Place:
    """To another position of the same request, which need not have a row: a cached prefix has none."""
    here, runs = _cell(place), runs_of(survey)
    rows, others = runs.places(here.request, position, position + 1)
    if rows[0] < 0 and others[0] < 0:
        return replace(place, cell=replace(here, position=position, generation=0, row=-1, other=-1))
    return replace(place, cell=runs.cell(int(rows[0]), int(others[0]), here.op))


def to_cell(place: Place, cell: Cell) -> Place:
    """To a cell that a list has shown."""
    return replace(place, cell=cell)


def stay(survey: Survey, place: Place) -> Place:
    """Look again; begin where nothing was yet."""
    return start(survey, place) if place.cell is None else place


def to_end(survey: Survey, place: Place) -> Place:
    """To the last step."""
    return to_step(survey, place, runs_of(survey).recorded.n_steps - 1)


def to_op(survey: Survey, place: Place, op: int) -> Place:
    """To another op of the same row."""
    return replace(place, cell=replace(_cell(place), op=op))


def to_layer(survey: Survey, place: Place, ops: tuple[int, int]) -> Place:
    """To one of the ops [first, last]: of the same name, where there is one."""
    here, runs = _cell(place), runs_of(survey)
    name = split_name(runs.ops[here.op])[1]
    same = [op for op in range(ops[0], ops[1] + 1) if split_name(runs.ops[op])[1] == name]
    return to_op(survey, place, (same or [ops[0]])[0])


def into_step(survey: Survey, place: Place) -> Place:
    """To the row of the step in which the op's layer is worst off."""
    here, runs = _cell(place), runs_of(survey)
    rows, others, _ = runs.step_rows(here.step, here.step + 1)
    layer = split_name(runs.ops[here.op])[0]
    ops = [
        op
        for op, name in enumerate(runs.ops)
        if op == here.op or (layer is not None and split_name(name)[0] == layer)
    ]
    worst = runs.states(rows, others, place.rank)[:, ops].max(axis=1, initial=0)
    at = int(worst.argmax()) if len(worst) else 0
    own = (rows == here.row) & (others == here.other)
    if not len(worst) or worst[own].max(initial=0) == worst[at]:
        return place
    return replace(place, cell=runs.cell(int(rows[at]), int(others[at]), here.op))


def into_layer(survey: Survey, place: Place) -> Place:
    """To the first among the worst ops of the layer in this row."""
    here, runs = _cell(place), runs_of(survey)
    layer = split_name(runs.ops[here.op])[0]
    if layer is None:
        return place
    ops = [op for op, name in enumerate(runs.ops) if split_name(name)[0] == layer]
    states = survey.row(here, place.rank).ops
    worst = max(states[op].state for op in ops)
    if states[here.op].state == worst:
        return place
    return to_op(survey, place, next(op for op in ops if states[op].state == worst))

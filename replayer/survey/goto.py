"""Places as people write them: "step 12", "r3:45", "14.attn", "r3:45 14.attn"."""

import difflib

from detrec.printable import counted
from detrec.replayer.survey.cell import Cell
from detrec.replayer.survey.runs import Runs


def goto(runs: Runs, text: str, here: Cell | None = None) -> Cell:
    """The cell that `text` names; what it does not name is as `here`.

    A word is an op ("14.attn", "logits"), a layer ("layer 14"), a step ("step 12", "12"), a place ("r3:45",
    by the request's id) or a request ("r3"). An id may hold blanks. ValueError, saying what there is, where
    nothing is meant.
    """
    words = text.split()
    if not words:
        raise ValueError("name a step (step 12), a place (r3:45) or an op (14.attn)")
    op = here.op if here else 0
    step: int | None = None
    place: tuple[str, int] | None = None
    while words:
        if words[0] == "step" and len(words) > 1 and words[1].isdecimal():
            step, words = int(words[1]), words[2:]
        elif words[0] == "layer" and len(words) > 1:
            op, words = _layer(runs, words[1]), words[2:]
        elif words[0] in runs.ops:
            op, words = runs.ops.index(words[0]), words[1:]
        elif (found := _place(runs, words, here)) is not None:
            place, words = found[0], words[found[1] :]
        elif words[0].isdecimal():
            step, words = int(words[0]), words[1:]
        else:
            raise ValueError(_unknown(runs, words[0]))
    return _cell(runs, here, op, step, place)


def _cell(runs: Runs, here: Cell | None, op: int, step: int | None, place: tuple[str, int] | None) -> Cell:
    if place is not None:
        return _at_place(runs, place, op, step)
    if step is None:
        if here is None:
            raise ValueError("name a step (step 12) or a place (r3:45) as well")
        return Cell(here.step, here.request, here.position, here.generation, op, here.row, here.other)
    if not 0 <= step < runs.recorded.n_steps:
        if runs.recorded.status == "partial":
            raise ValueError(f"replayed up to step {runs.recorded.n_steps - 1}: R replays the whole run")
        raise ValueError(f"there is no step {step}: the run has steps 0 to {runs.recorded.n_steps - 1}")
    rows, others, _ = runs.step_rows(step, step + 1)
    if not len(rows):
        raise ValueError(f"step {step} has no rows")
    same = [i for i, row in enumerate(rows.tolist()) if here and _is_of(runs, row, here.request)]
    at = same[0] if same else 0
    return runs.cell(int(rows[at]), int(others[at]), op)


def _at_place(runs: Runs, place: tuple[str, int], op: int, step: int | None) -> Cell:
    request, position = place
    if position >= runs.length(request):
        raise _nowhere(runs, request, position)
    for generation in (None, *range(runs.generations(request) - 1)):
        rows, others = runs.places(request, position, position + 1, generation)
        if rows[0] < 0 and others[0] < 0:
            continue
        cell = runs.cell(int(rows[0]), int(others[0]), op)
        if step in (None, cell.step):
            return cell
    if step is not None:
        raise ValueError(f"{request}:{position} was not computed in step {step}")
    raise _nowhere(runs, request, position)


def _nowhere(runs: Runs, request: str, position: int) -> ValueError:
    known = counted(runs.length(request), "position")
    return ValueError(f"{request}:{position}: nothing was computed there; it has {known}")


def _is_of(runs: Runs, row: int, request: str) -> bool:
    return row >= 0 and runs.recorded.requests[int(runs.recorded.row_request[row])].id == request


def _layer(runs: Runs, word: str) -> int:
    for index, name in enumerate(runs.ops):
        if name.startswith(f"{word}."):
            return index
    raise ValueError(f"there is no layer {word}")


def _place(runs: Runs, words: list[str], here: Cell | None) -> tuple[tuple[str, int], int] | None:
    """The place that the first words name, and how many words that took: ids may hold blanks and colons."""
    for count in range(len(words), 0, -1):
        name = " ".join(words[:count])
        request, colon, position = name.rpartition(":")
        if colon and position.isdecimal() and request in runs.ids:
            return (request, int(position)), count
        if name in runs.ids:
            return (name, here.position if here and here.request == name else _first(runs, name)), count
    return None


def _first(runs: Runs, request: str) -> int:
    """The first position of a request that any run computed."""
    found = [
        int(side.row_position[rows].min()) for side in runs.sides if len(rows := runs.rows_of(side, request))
    ]
    if not found:
        raise ValueError(f"{request}: nothing was computed of it")
    return min(found)


def _unknown(runs: Runs, word: str) -> str:
    known = [*runs.ops, *runs.ids]
    near = difflib.get_close_matches(word.rpartition(":")[0] or word, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "name a step (step 12), a place (r3:45) or an op (14.attn)"
    return f"{word}: no step, request or op is called that; {hint}"

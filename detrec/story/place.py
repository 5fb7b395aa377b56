"""The facts of one row: its ops in causal order, its request's tokens, and tensors where they were kept."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from detrec.replayer.divergence import split_name
from detrec.replayer.survey.cell import Cell
from detrec.replayer.survey.draws import Draw
from detrec.replayer.survey.rows import OpOfRow, SideOfRow
from detrec.replayer.survey.survey import Survey
from detrec.replayer.survey.tensors import Tensor, Tensors
from detrec.replayer.survey.tokens import TokenAt

TOKENS_BEFORE, TOKENS_AFTER = 40, 24
PICTURE = (24, 64)
_DIFFERENT = ("born", "inherited", "missing", "corrupt")


def facts(survey: Survey, cell: Cell | None) -> dict[str, Any]:
    """`row`, `text` and `tensors`, each None where there is nothing to say.

    Of a run alone, `text` is the end of its first request.
    """
    if survey.runs is None or cell is None:
        alone = survey.runs is not None and survey.other is None and survey.runs.ids
        text = _text(survey, survey.runs.ids[0], None) if survey.runs is not None and alone else None
        return {"row": None, "text": text, "tensors": None}
    kept = survey.tensors()
    return {
        "row": _row(survey, cell),
        "text": _text(survey, cell.request, cell.position),
        "tensors": None if kept is None else _tensors(kept, cell),
    }


def cell_json(cell: Cell, ops: Sequence[str]) -> dict[str, Any]:
    """A cell by the names that `first` uses."""
    layer, op = split_name(ops[cell.op])
    return {
        "step": cell.step,
        "request": cell.request,
        "position": cell.position,
        "generation": cell.generation,
        "layer": layer,
        "op": op,
    }


def _row(survey: Survey, cell: Cell) -> dict[str, Any]:
    """`at`: index of the op that the row is told around."""
    row = survey.row(cell)
    ops = [_op(op) for op in row.ops]
    # a place that names no op has the first one
    at = cell.op or next((index for index, op in enumerate(ops) if op["state"] in _DIFFERENT), 0)
    return {
        "request": cell.request,
        "position": cell.position,
        "generation": cell.generation,
        "recorded": _side(row.recorded),
        "replayed": _side(row.replayed),
        "at": at,
        "ops": ops,
    }


def _side(side: SideOfRow | None) -> dict[str, Any] | None:
    if side is None:
        return None
    return {"row": side.row, "step": side.step, "token": side.token, "draw": _draw(side.draw)}


def _draw(draw: Draw | None) -> dict[str, Any] | None:
    """JSON has no infinity: a row with one token above -inf has no second, and a margin of None."""
    if draw is None:
        return None
    finite = {name: value if math.isfinite(value) else None for name, value in _floats(draw).items()}
    return asdict(draw) | finite


def _floats(draw: Draw) -> dict[str, float]:
    return {"logprob": draw.logprob, "margin": draw.margin}


def _op(op: OpOfRow) -> dict[str, Any]:
    return {
        "op": split_name(op.name)[1],
        "layer": op.layer,
        "state": op.state.name.lower(),
        "rank": op.rank,
        "ranks": [state.name.lower() for state in op.ranks],
        "recorded": _hex(op.recorded),
        "replayed": _hex(op.replayed),
        "recorded_kernel": op.recorded_kernel,
        "replayed_kernel": op.replayed_kernel,
    }


def _hex(fingerprint: int) -> str | None:
    return f"{fingerprint:016x}" if fingerprint else None


def _text(survey: Survey, request: str, position: int | None) -> dict[str, Any]:
    """Tokens around the first flip of a request; where none flipped around `position`, or else the last
    ones.
    """
    found = survey.tokens(request)
    centre = len(found.tokens) if position is None else position
    centre = centre if found.first_flip is None else found.first_flip
    start = max(centre - TOKENS_BEFORE, 0)
    shown = found.tokens[start : centre + TOKENS_AFTER + 1]
    return {
        "request": request,
        "tokens": len(found.tokens),
        "prompt": sum(token.prompt for token in found.tokens),
        "first_flip": None if found.first_flip is None else found.tokens[found.first_flip].position,
        "shown": [_token(token) for token in shown],
    }


def _token(token: TokenAt) -> dict[str, Any]:
    return {
        "position": token.position,
        "prompt": token.prompt,
        "recorded": token.recorded,
        "replayed": token.replayed,
        "recorded_text": token.recorded_text,
        "replayed_text": token.replayed_text,
        "recorded_draw": _draw(token.recorded_draw),
        "replayed_draw": _draw(token.replayed_draw),
        "differs": token.differs,
    }


def _tensors(kept: Tensors, cell: Cell) -> dict[str, Any]:
    return {
        "op": kept.op,
        "steps": list(kept.steps),
        "kernels": list(kept.kernels),
        "tensors": [_tensor(tensor, cell) for tensor in kept.tensors],
    }


def _tensor(tensor: Tensor, cell: Cell) -> dict[str, Any]:
    side = tensor.recorded if tensor.recorded is not None else tensor.replayed
    about: dict[str, Any] = {
        "name": tensor.name,
        "shape": [] if side is None else list(side.shape),
        "dtype": "" if side is None else str(side.dtype),
        "comparable": tensor.comparable,
        "differing": 0,
        "row": None,
        "elements": [],
        "picture": [],
    }
    if not tensor.comparable or side is None or not side.size:
        return about
    differs = tensor.differs()
    place = (cell.request, cell.position)
    row = tensor.places.index(place) if place in tensor.places else int(differs.any(axis=1).argmax())
    elements = [element for element in tensor.elements(row) if element.differs]
    width = 2 * side.dtype.itemsize
    return about | {
        "differing": int(differs.sum()),
        "row": row,
        "elements": [
            {
                "column": element.column,
                "recorded_bits": f"{element.recorded_bits:0{width}x}",
                "replayed_bits": f"{element.replayed_bits:0{width}x}",
                "recorded": element.recorded if math.isfinite(element.recorded) else None,
                "replayed": element.replayed if math.isfinite(element.replayed) else None,
                "ulp": element.ulp,
            }
            for element in elements
        ],
        "picture": [[round(share, 4) for share in line] for line in tensor.picture(*PICTURE).tolist()],
    }

"""The facts of how the runs went: their steps, their KV cache, their kernels and their requests."""

from dataclasses import asdict
from typing import Any

import numpy as np

from detrec.engines.base import Event
from detrec.replayer.divergence import split_name
from detrec.replayer.survey.cell import Cell
from detrec.replayer.survey.kernels import KernelUse
from detrec.replayer.survey.kv import KvUse
from detrec.replayer.survey.schedule import StepOf, StepPair
from detrec.replayer.survey.survey import Survey

STEPS_BEFORE, STEPS_AFTER = 2, 2
STEPS_ALONE, STEPS_EQUAL = 12, 3
SLICES_SHOWN = 24
KERNELS_SHOWN = 24
REQUESTS_SHOWN = 50
KV_POINTS = 160


def facts(survey: Survey, cell: Cell | None) -> dict[str, Any]:
    """`schedule`, `kv`, `kernel_uses`, `requests` and `manifest`."""
    if survey.runs is None:
        return {"schedule": None, "kv": [], "kernel_uses": None, "requests": None, "manifest": None}
    return {
        "schedule": _schedule(survey, cell),
        "kv": [None if use is None else _kv(use) for use in survey.kv()],
        "kernel_uses": _kernels(survey),
        "requests": _requests(survey),
        "manifest": survey.runs.recorded.manifest,
    }


def _schedule(survey: Survey, cell: Cell | None) -> dict[str, Any]:
    """The steps around the story's, else the first few; and the first that differs."""
    schedule = survey.schedule
    if cell is None:
        most = STEPS_ALONE if survey.other is None or schedule.differing.any() else STEPS_EQUAL
        shown = list(range(min(len(schedule), most)))
    else:
        at = schedule.at_step(cell.step)
        shown = list(range(max(at - STEPS_BEFORE, 0), min(at + STEPS_AFTER + 1, len(schedule))))
    differing = schedule.next_differing(-1)
    if differing is not None and shown and differing not in shown:
        shown = sorted([differing, *shown])
    return {
        "pairs": len(schedule),
        "differing": int(schedule.differing.sum()),
        "shown": [_pair(schedule[index]) for index in shown],
    }


def _pair(pair: StepPair) -> dict[str, Any]:
    return {
        "recorded": None if pair.recorded is None else _step(pair.recorded),
        "replayed": None if pair.replayed is None else _step(pair.replayed),
        "differs": list(pair.differs),
    }


def _step(step: StepOf) -> dict[str, Any]:
    """`more` slices are not shown."""
    slices = [
        {
            "request": part.request,
            "start": part.start,
            "stop": part.stop,
            "kind": str(part.kind),
            "samples": part.samples,
            "first_block": part.first_block,
            "changed": changed,
        }
        for part, changed in zip(step.slices, step.changed, strict=True)
    ]
    return {
        "step": step.index,
        "rows": step.rows,
        "padded_rows": step.padded_rows,
        "graph_bucket": step.graph_bucket,
        "kernel_table": step.kernel_table,
        "slices": slices[:SLICES_SHOWN],
        "more": max(len(slices) - SLICES_SHOWN, 0),
        "before": [_event(event) for event in step.before],
        "finished": [_event(event) for event in step.finished],
    }


def _event(event: Event) -> dict[str, Any]:
    return {"kind": str(event.kind), "request": event.request, "tokens": event.tokens}


def _kv(use: KvUse) -> dict[str, Any]:
    """`held`: the most blocks in each of at most KV_POINTS equal stretches of steps."""
    held = use.held
    parts = min(len(held), KV_POINTS)
    edges = np.arange(parts) * len(held) // max(parts, 1)
    return {
        "blocks": use.blocks,
        "block_size": use.block_size,
        "most": int(held.max(initial=0)),
        "held": np.maximum.reduceat(held, edges).tolist() if parts else [],
        "hits": len(use.hits),
        "preemptions": len(use.preemptions),
        "served": use.served,
        "computed": use.computed,
    }


def _kernels(survey: Survey) -> dict[str, Any]:
    """Of two runs what differs; of one, what ran. `more` are not shown."""
    uses = survey.kernels()
    alone = survey.other is None
    wanted = [use for use in uses if alone or use.differs]
    shown = [_use(use) for use in wanted[:KERNELS_SHOWN]]
    return {"differing": 0 if alone else len(wanted), "shown": shown, "more": len(wanted) - len(shown)}


def _use(use: KernelUse) -> dict[str, Any]:
    layer, op = split_name(use.name)
    return asdict(use) | {"layer": layer, "op": op}


def _requests(survey: Survey) -> dict[str, Any]:
    assert survey.runs is not None
    recorded = survey.runs.recorded
    number = recorded.samples().request
    drawn = np.bincount(number, minlength=len(recorded.requests)).tolist()
    return {
        "total": len(recorded.requests),
        "shown": [
            {
                "id": request.id,
                "arrival": request.arrival,
                "prompt_tokens": len(request.prompt),
                "drawn_tokens": count,
                "seed": request.sampling.seed,
                "temperature": request.sampling.temperature,
            }
            for request, count in list(zip(recorded.requests, drawn, strict=True))[:REQUESTS_SHOWN]
        ],
    }

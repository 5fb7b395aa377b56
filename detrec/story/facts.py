"""Everything a report says, as one JSON-ready object: what is not in here is shown nowhere."""

from dataclasses import asdict
from typing import Any

from detrec import __version__, report, report_cause, report_ranks
from detrec.printable import counted
from detrec.replayer.survey.cell import Cell
from detrec.replayer.survey.survey import Progress, Survey
from detrec.story import maps, place, running

BORN_SHOWN = 12


def facts(survey: Survey, *, cell: Cell | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Compare, if there is anything to compare, and gather what is to be said.

    `cell` is what the story is about; None: the first divergence, and of a run alone nothing in particular.
    Fingerprints are 16 hexadecimal digits, null where none was recorded.
    """
    comparison = survey.compare(progress)
    first = survey.first()
    about = cell or (None if first is None else first.cell)
    # they read more of the traces, which may show that some of it is corrupt
    told = place.facts(survey, about) | maps.facts(survey, about) | running.facts(survey, about)
    data: dict[str, Any] = {"verdict": None, "trace": survey.run, "replayed": survey.other}
    if comparison is not None:
        data = report.to_json(
            comparison,
            trace=survey.run,
            replayed=survey.other or "",
            seconds=comparison.seconds,
            diagnosis=survey.diagnosis,
        )
    return data | {
        "cause": None if survey.diagnosis is None else report_cause.to_json(survey.diagnosis),
        "measured": _measured(survey),
        "headline": _headline(survey),
        "detrec": __version__,
        "problem": survey.problem,
        "ranks_say": [] if comparison is None else [text for _, text in report_ranks.lines(comparison)],
        "traces": [asdict(condition) for condition in survey.conditions],
        "command": survey.command(),
        "divergences": _divergences(survey),
        **told,
    }


def _measured(survey: Survey) -> dict[str, Any] | None:
    """The cell that the explorer was told to measure, and what that found."""
    found = survey.measured
    if found is None or survey.runs is None:
        return None
    return {
        "cell": place.cell_json(found.cell, survey.runs.ops),
        "cause": report_cause.to_json(found.diagnosis),
        "notes": list(found.notes),
    }


def _headline(survey: Survey) -> str:
    """The verdict in a line; of runs that were not compared, what there is; and what of either is corrupt."""
    corrupt = next((found.detail for found in survey.conditions if found.status == "corrupt"), "")
    if survey.comparison is not None:
        lost = corrupt and survey.comparison.verdict == "incomplete"
        return f"could not tell: {corrupt}" if lost else report.headline(survey.comparison)
    if survey.runs is None or survey.problem:
        return f"could not tell: {survey.problem}"
    recorded = survey.runs.recorded
    steps, rows = counted(recorded.n_steps, "step"), counted(recorded.n_rows, "row")
    told = f"one run: {steps}, {rows} and {counted(len(recorded.ops), 'op')}"
    return f"{told}; {corrupt}" if corrupt else told


def _divergences(survey: Survey) -> dict[str, Any]:
    """How many rows diverge, how many of them on their own, and the first of those in causal order."""
    walk = None if survey.runs is None else survey.runs.walk
    if survey.runs is None or walk is None:
        return {"rows": 0, "born_rows": 0, "shown": []}
    count = walk.count()
    shown = [walk.at(index) for index in range(min(count, BORN_SHOWN))]
    return {
        "rows": walk.count(born_only=False),
        "born_rows": count,
        "shown": [
            place.cell_json(found.cell, survey.runs.ops) | {"ranks": found.ranks, "cells": found.cells}
            for found in shown
        ],
    }

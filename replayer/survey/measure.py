"""Any divergent cell measured as a diagnosis measures the first: both sides run again up to its step.

Needs an engine that takes instruments, on a CPU; where that cannot be had, what two traces tell is all.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from detrec.recorder.reader import TraceReader
from detrec.replayer.comparison import Comparison
from detrec.replayer.diagnosis import Diagnosis
from detrec.replayer.divergence import Divergence, DivergentRows, split_name
from detrec.replayer.survey.cell import Cell, State
from detrec.replayer.survey.command import Replayed
from detrec.replayer.trace import engines_of

if TYPE_CHECKING:
    from detrec.engines.start import Progress
    from detrec.replayer.findings import Findings
    from detrec.replayer.survey.survey import Survey


@dataclass(frozen=True, slots=True)
class Measured:
    """What measuring `cell` found; `first`: it is where the runs first diverged, so this is the cause.

    `notes` say what could not be done. `folder` holds both sides' tensors of the op; "" where a side that was
    run again did not give the bits of its trace, so that its tensors are not those that were.
    """

    cell: Cell
    first: bool
    diagnosis: Diagnosis
    notes: tuple[str, ...]
    folder: str


def measure(
    survey: "Survey",
    cell: Cell,
    folder: str,
    *,
    rank: int | None = None,
    notify: Callable[[str], None] = lambda text: None,
    progress: "Progress | None" = None,
) -> Measured:
    """Graft, repeat and take apart the op of a divergent cell, and keep its tensors in `folder`.

    The second side is run as the survey knows it was made, else by its own manifest. ValueError where
    there is nothing to measure; DetrecError as `replay`; what `progress` raises is passed on, and ends it.
    """
    # they load the engine, which no look at a trace needs
    from detrec.replayer.classify import classify
    from detrec.replayer.diagnose import Made, find
    from detrec.replayer.stale import stale_row

    compared, traces = _compared(survey)
    first, kernels = _divergence(survey, cell, rank)
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        notify(text)

    narrowed = _narrowed(compared, first, cell, kernels)
    by = survey.made_by or made_by(compared)
    made = Made(by.overrides, by.mode, by.fault, folder, note, progress)
    measured = find(*traces, narrowed, made)
    cause = classify(replace(measured, stale=stale_row(*traces, narrowed)))
    kept = _reproduced(measured, note)
    return Measured(cell, compared.first == first, cause, tuple(notes), folder if kept else "")


def _compared(survey: "Survey") -> tuple[Comparison, tuple[TraceReader, TraceReader]]:
    runs = survey.runs
    if runs is None or runs.replayed is None:
        raise ValueError("one run alone: there is no other to graft onto; r replays it")
    if survey.comparison is None:
        raise ValueError(survey.problem or "the runs have not been compared")
    traces = runs.recorded.reader, runs.replayed.reader
    if foreign := engines_of(*traces) - {"builtin"}:
        raise ValueError(f"only the built-in engine can be run again to look into an op, not {min(foreign)}")
    return survey.comparison, traces


def _divergence(survey: "Survey", cell: Cell, rank: int | None) -> tuple[Divergence, tuple[str, str]]:
    """The cell as if it were the first divergence, and the kernels that ran it in either run."""
    assert survey.runs is not None, "they have been compared"
    name = survey.runs.ops[cell.op]
    where = f"{name} of {cell.request}:{cell.position}"
    if cell.row < 0 or cell.other < 0:
        raise ValueError(f"{where} is not in both runs")
    found = next(op for op in survey.row(cell, rank).ops if op.op == cell.op)
    if found.state not in (State.INHERITED, State.BORN):
        raise ValueError(f"{where} is {found.state.name.lower()}: nothing to graft")
    prints = found.rank, found.recorded, found.replayed
    first = Divergence(cell.step, cell.request, cell.position, *split_name(name), *prints)
    return first, (found.recorded_kernel, found.replayed_kernel)


def _reproduced(measured: "Findings", note: Callable[[str], None]) -> bool:
    """Did both sides give the bits of their traces again? `note` is told where not."""
    ours = measured.reference is not None and measured.reference.reproduces
    theirs = measured.again == "replayed"
    if measured.reference is not None and not ours:
        note("run again, the recorded run gives other bits here: its tensors are lost")
    if measured.again and not theirs:
        note(
            "run again, the replayed run gives other bits here: a rare race, or its trace does not tell how "
            "it was made"
        )
    return ours and theirs


def made_by(comparison: Comparison) -> Replayed:
    """How a second run can be made of which only its trace is known: by what its manifest says differently.

    A schedule of its own is left to the scheduler.
    """
    prefix = "config."
    overrides = tuple(
        f"{each.key.removeprefix(prefix)}={json.dumps(each.replayed)}"
        for each in comparison.manifest_diff
        if each.key.startswith((f"{prefix}engine.", f"{prefix}model"))
    )
    return Replayed("free" if comparison.schedule_diff.total else "schedule", overrides)


def _narrowed(compared: Comparison, first: Divergence, cell: Cell, kernels: tuple[str, str]) -> Comparison:
    """A comparison in which this cell is the first divergence, and the only one."""
    one = {
        name: np.array([value], np.int32)
        for name, value in (("generation", cell.generation), ("position", cell.position), ("op", cell.op))
    }
    rows = DivergentRows(
        row=np.array([cell.row], np.int64),
        other=np.array([cell.other], np.int64),
        request=np.zeros(1, np.int32),
        at_op=np.ones(1, np.int32),
        cells=np.ones(1, np.int32),
        **one,
    )
    return replace(
        compared,
        first=first,
        divergent=rows,
        born=np.ones(1, bool),
        kernels=kernels if kernels[0] != kernels[1] else None,
    )

"""The schedules of both runs beside each other: step by step, with gaps where only one has a step."""

from dataclasses import dataclass, replace

import numpy as np

from detrec.engines.base import Event, Slice
from detrec.recorder.schema import EVENT_KINDS, KINDS
from detrec.replayer.survey.differences import PLANNED, differences
from detrec.replayer.survey.runs import Runs
from detrec.replayer.survey.side import Side
from detrec.replayer.survey.steps import aligned, work


@dataclass(frozen=True, slots=True)
class StepOf:
    """A step of one run. `before`: preemptions and hits; `finished`: requests that ended with it.

    `padded_rows` is 0 of a run on a CPU, `graph_bucket` where no graph was captured; `kernel_table` numbers
    the run's tables of kernels. `changed[i]`: does slice i have no equal in the step beside it, or stand
    elsewhere in the batch?
    """

    index: int
    slices: tuple[Slice, ...]
    changed: tuple[bool, ...]
    before: tuple[Event, ...]
    finished: tuple[Event, ...]
    rows: int
    padded_rows: int
    graph_bucket: int
    kernel_table: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StepPair:
    """Steps beside each other; a side is None where that run has none there.

    `differs` names what is not the same: see `differences`.
    """

    recorded: StepOf | None
    replayed: StepOf | None
    differs: tuple[str, ...]


class Schedule:
    """Pairs of steps in order: `len`, `[i]`, `at_step`. Of a run alone every pair has one side.

    `steps`: int64 [pairs, 2], -1 for none. `differing`: which pairs differ in their slices, order, kind or
    events, or lack a side, bool [pairs].
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._differences: dict[str, np.ndarray] = {}
        if runs.replayed is None:
            ours = np.arange(runs.recorded.n_steps)
            self.steps = np.stack([ours, np.full(len(ours), -1)], axis=1)
            self.differing = np.zeros(len(ours), bool)
            return
        self.steps = aligned(*(work(runs, side) for side in runs.sides))
        self._differences = differences(runs, self.steps)
        self.differing = np.logical_or.reduce([self._differences[name] for name in PLANNED])

    def __len__(self) -> int:
        return len(self.steps)

    def at_step(self, step: int) -> int:
        """The index of the pair that holds a recorded step, or of the first after it."""
        known = self.steps[:, 0]
        at = np.flatnonzero(known >= step)
        return int(at[0]) if len(at) else len(known) - 1

    def next_differing(self, index: int) -> int | None:
        """The first pair after `index` that differs."""
        at = np.flatnonzero(self.differing[index + 1 :])
        return index + 1 + int(at[0]) if len(at) else None

    def previous_differing(self, index: int) -> int | None:
        """The last pair before `index` that differs."""
        at = np.flatnonzero(self.differing[: max(index, 0)])
        return int(at[-1]) if len(at) else None

    def differs(self, index: int) -> tuple[str, ...]:
        """What is not the same in a pair: `StepPair.differs`."""
        return tuple(name for name, differ in self._differences.items() if differ[index])

    @property
    def sides(self) -> tuple[Side, ...]:
        """The runs, recorded first."""
        return self._runs.sides

    def __getitem__(self, index: int) -> StepPair:
        sides = [
            _step(side, int(step)) if step >= 0 else None
            for side, step in zip(self._runs.sides, self.steps[index], strict=False)
        ]
        recorded, replayed = sides if len(sides) == 2 else (sides[0], None)
        if recorded is not None and replayed is not None and self.differing[index]:
            recorded, replayed = _marked(recorded, replayed), _marked(replayed, recorded)
        return StepPair(recorded, replayed, self.differs(index))


def _step(side: Side, index: int) -> StepOf:
    first, last = (int(edge) for edge in side.step_slices[index : index + 2])
    names = [side.requests[number].id for number in side.column("slices/request")[first:last].tolist()]
    columns = (
        side.column(f"slices/{name}")[first:last].tolist()
        for name in ("start", "stop", "kind", "samples", "first_block")
    )
    slices = tuple(
        Slice(name, start, stop, KINDS[kind], samples, block)
        for name, start, stop, kind, samples, block in zip(names, *columns, strict=True)
    )
    events = _events(side, index)
    return StepOf(
        index,
        slices,
        (False,) * len(slices),
        tuple(event for event in events if event.kind != "finished"),
        tuple(event for event in events if event.kind == "finished"),
        int(side.step_rows[index + 1] - side.step_rows[index]),
        int(side.column("steps/padded_rows")[index]),
        int(side.column("steps/graph_bucket")[index]),
        int(side.column("steps/kernel_table")[index]),
        float(side.column("steps/seconds")[index]),
    )


def _events(side: Side, index: int) -> list[Event]:
    first, last = np.searchsorted(side.column("events/step"), (index, index + 1))
    columns = (side.column(f"events/{name}")[first:last].tolist() for name in ("kind", "request", "tokens"))
    return [
        Event(EVENT_KINDS[kind], side.requests[number].id, tokens)
        for kind, number, tokens in zip(*columns, strict=True)
    ]


def _decided(part: Slice) -> tuple[object, ...]:
    """A slice without its KV block, which is where the engine happened to put it."""
    return part.request, part.start, part.stop, part.kind, part.samples


def _marked(step: StepOf, beside: StepOf) -> StepOf:
    theirs = [_decided(part) for part in beside.slices]
    changed = tuple(at >= len(theirs) or _decided(part) != theirs[at] for at, part in enumerate(step.slices))
    return replace(step, changed=changed)

"""The schedules of both runs beside each other: step by step, with gaps where only one has a step.

A step is known again by what it computes: the same tokens of the same requests. Between steps that are known
again, steps stand together in their order.
"""

from bisect import bisect_left
from dataclasses import dataclass, replace

import numpy as np

from detrec.engines.base import Event, Slice
from detrec.recorder.schema import EVENT_KINDS, KINDS
from detrec.replayer.survey.runs import Runs
from detrec.replayer.survey.side import Side


@dataclass(frozen=True, slots=True)
class StepOf:
    """A step of one run. `before`: preemptions and hits; `finished`: requests that ended with it.

    `graph_bucket` is 0 where no graph was captured; `kernel_table` numbers the run's tables of kernels.
    `changed[i]`: does slice i have no equal in the step beside it, or stand elsewhere in the batch?
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

    `differs` names what is not the same: step, slices, order, kind, events, finished, padding, graph,
    kernels.
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
        work = [_work(runs, side) for side in runs.sides]
        if len(work) == 1:
            ours = np.arange(len(work[0]))
            self.steps = np.stack([ours, np.full(len(ours), -1)], axis=1)
            self.differing = np.zeros(len(ours), bool)
            return
        self.steps = _aligned(*work)
        plans = [_plan(runs, side) for side in runs.sides]
        both = (self.steps >= 0).all(axis=1)
        self.differing = np.logical_not(both)
        here, there = self.steps[both].T
        self.differing[both] = plans[0][here] != plans[1][there]

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

    def __getitem__(self, index: int) -> StepPair:
        sides = [
            _step(side, int(step)) if step >= 0 else None
            for side, step in zip(self._runs.sides, self.steps[index], strict=False)
        ]
        recorded, replayed = sides if len(sides) == 2 else (sides[0], None)
        if recorded is None or replayed is None:
            return StepPair(recorded, replayed, () if self._runs.replayed is None else ("step",))
        ours, theirs = (_marked(a, b) for a, b in ((recorded, replayed), (replayed, recorded)))
        kernels = [
            side.kernels_of(step.index)
            for side, step in zip(self._runs.sides, (recorded, replayed), strict=True)
        ]
        return StepPair(ours, theirs, _differences(recorded, replayed, kernels[0] != kernels[1]))


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


def _differences(recorded: StepOf, replayed: StepOf, kernels: bool) -> tuple[str, ...]:
    ours, theirs = ([_decided(part) for part in step.slices] for step in (recorded, replayed))
    spans = [sorted(part[:3] for part in parts) for parts in (ours, theirs)]
    found = []
    if spans[0] != spans[1]:
        found.append("slices")
    elif [part[0] for part in ours] != [part[0] for part in theirs]:
        found.append("order")
    elif ours != theirs:
        found.append("kind")
    for name, differ in (
        ("events", recorded.before != replayed.before),
        ("finished", recorded.finished != replayed.finished),
        ("padding", recorded.padded_rows != replayed.padded_rows),
        ("graph", recorded.graph_bucket != replayed.graph_bucket),
        ("kernels", kernels),
    ):
        if differ:
            found.append(name)
    return tuple(found)


def _columns(runs: Runs, side: Side) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Of every slice its step, its place in the step, and request (numbered alike in both runs), start,
    stop.
    """
    step = side.column("slices/step").astype(np.int64)
    place = np.arange(len(step)) - side.step_slices[step]
    of = [
        runs.numbers(side)[side.column("slices/request")],
        side.column("slices/start"),
        side.column("slices/stop"),
    ]
    return step, place, of


def _work(runs: Runs, side: Side) -> np.ndarray:
    """A number for what each step computes, whatever the order, uint64 [steps]."""
    step, _, of = _columns(runs, side)
    return _summed(step, of, side.n_steps)


def _plan(runs: Runs, side: Side) -> np.ndarray:
    """A number for all that was decided of each step, uint64 [steps]: order, kinds, preemptions and hits
    too.
    """
    step, place, of = _columns(runs, side)
    slices = _summed(
        step, [place, *of, side.column("slices/kind"), side.column("slices/samples")], side.n_steps
    )
    kind = side.column("events/kind")
    before = np.flatnonzero(kind != EVENT_KINDS.index("finished"))
    events = [kind, runs.numbers(side)[side.column("events/request")], side.column("events/tokens")]
    happened = _summed(
        side.column("events/step")[before].astype(np.int64),
        [np.full(len(before), 7), *(column[before] for column in events)],
        side.n_steps,
    )
    return slices ^ (happened * np.uint64(3))


def _summed(step: np.ndarray, columns: list[np.ndarray], n_steps: int) -> np.ndarray:
    """The sum over each step's entries of a hash of their columns, uint64 [steps], modulo 2^64."""
    key = np.zeros(len(step), np.uint64)
    for column in columns:
        key = _mixed(key * np.uint64(31) + column.astype(np.uint64) + np.uint64(1))
    out = np.zeros(n_steps, np.uint64)
    np.add.at(out, step, key)
    return out


def _mixed(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _aligned(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Steps beside each other, int64 [pairs, 2], -1 for none: patience diff over steps that occur once."""
    anchors = _anchors(ours, theirs)
    parts = []
    here = there = 0
    for a, b in [*anchors, (len(ours), len(theirs))]:
        count = min(a - here, b - there)
        parts.append(np.stack([np.arange(here, here + count), np.arange(there, there + count)], axis=1))
        for first, last, side in ((here + count, a, 0), (there + count, b, 1)):
            alone = np.full((last - first, 2), -1)
            alone[:, side] = np.arange(first, last)
            parts.append(alone)
        if a < len(ours):
            parts.append(np.array([[a, b]]))
        here, there = a + 1, b + 1
    return np.concatenate(parts).astype(np.int64)


def _anchors(ours: np.ndarray, theirs: np.ndarray) -> list[tuple[int, int]]:
    """Steps that both runs have, in one order: the longest increasing run of those that occur once in each."""
    values, first, count = np.unique(theirs, return_index=True, return_counts=True)
    once = dict(zip(values[count == 1].tolist(), first[count == 1].tolist(), strict=True))
    values, counts = np.unique(ours, return_counts=True)
    single = set(values[counts == 1].tolist())
    tails: list[int] = []
    ends: list[tuple[int, int, int]] = []
    at_tail: list[int] = []
    for a, value in enumerate(ours.tolist()):
        b = once.get(value)
        if b is None or value not in single:
            continue
        place = bisect_left(tails, b)
        ends.append((a, b, at_tail[place - 1] if place else -1))
        if place == len(tails):
            tails.append(b)
            at_tail.append(len(ends) - 1)
        else:
            tails[place], at_tail[place] = b, len(ends) - 1
    found = []
    link = at_tail[-1] if at_tail else -1
    while link >= 0:
        a, b, link = ends[link]
        found.append((a, b))
    return found[::-1]

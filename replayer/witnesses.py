"""What two traces say of one divergent row: how it was drawn, and what was written to the KV it reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detrec.engines.base import EventKind
from detrec.recorder.reader import TraceReader
from detrec.replayer.arguments import bits, kv_read
from detrec.replayer.capture import Moment
from detrec.replayer.comparison import Comparison
from detrec.replayer.experiments import given, print_of
from detrec.replayer.findings import Cache, Draw


@dataclass(frozen=True, slots=True)
class Place:
    """The first divergent cell: op `name` on (request, position); its step and row in each run."""

    name: str
    request: str
    position: int
    recorded_step: int
    replayed_step: int
    recorded_row: int
    replayed_row: int


def place_of(recorded: TraceReader, replayed: TraceReader, comparison: Comparison) -> Place:
    """Where the first divergence is in both runs. ValueError for a comparison that has none."""
    first, rows = comparison.first, comparison.divergent
    if first is None:
        raise ValueError("a comparison without a divergent cell cannot be diagnosed")
    name = first.op if first.layer is None else f"{first.layer}.{first.op}"
    ids = [request.id for request in recorded.requests]
    at = np.flatnonzero(
        (recorded.row_step[rows.row] == first.step)
        & (recorded.row_position[rows.row] == first.position)
        & (recorded.row_request[rows.row] == ids.index(first.request))
        & (rows.op == comparison.ops.index(name))
    )
    here, there = int(rows.row[at[0]]), int(rows.other[at[0]])
    return Place(name, first.request, first.position, first.step, int(replayed.row_step[there]), here, there)


def draw_findings(recorded: TraceReader, replayed: TraceReader, place: Place) -> Draw | None:
    """How the row was drawn. None where a run did not draw from it, or kept no logprobs."""
    ours = _sample(recorded, place, place.recorded_step)
    theirs = _sample(replayed, place, place.replayed_step)
    logprobs = [
        _print(recorded, place.recorded_row, "logprobs"),
        _print(replayed, place.replayed_row, "logprobs"),
    ]
    if ours is None or theirs is None or not all(logprobs):
        return None
    return Draw(ours[0], theirs[0], ours[1], theirs[1], logprobs[0] == logprobs[1])


def cache_findings(
    recorded: Moment,
    replayed: Moment,
    place: Place,
    traces: tuple[TraceReader, TraceReader],
    writes: Mapping[tuple[str, int], Sequence[int]],
) -> Cache | None:
    """The KV that the row of an attention reads in both runs; `recorded` must hold the recorded bits.

    `writes` are fingerprints of all that the replay wrote there. None where the two cannot be compared.
    """
    row, other = (moment.row(place.request, place.position) for moment in (recorded, replayed))
    if recorded.field != "attention" or row is None or other is None:
        return None
    ours, theirs = kv_read(given(recorded, row)), kv_read(given(replayed, other))
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return None
    unequal = np.flatnonzero((bits(ours) != bits(theirs)).any(axis=1))
    if not len(unequal):
        return Cache(0, True, -1, False)
    steps = place.recorded_step, place.replayed_step
    served = [_served(trace, place.request, step) for trace, step in zip(traces, steps, strict=True)]
    written = _written(traces[1], place, unequal.tolist(), served[1], writes)
    alike = all(
        prints == {print_of(ours, position)}
        for position, prints in zip(unequal.tolist(), written, strict=True)
    )
    first = int(unequal[0])
    return Cache(len(unequal), alike, first, first < max(served))


def _sample(trace: TraceReader, place: Place, step: int) -> tuple[int, int] | None:
    samples = trace.samples()
    request = [r.id for r in trace.requests].index(place.request)
    at = np.flatnonzero(
        (samples.step == step) & (samples.request == request) & (samples.position == place.position)
    )
    return (int(samples.seed[at[0]]), int(samples.counter[at[0]])) if len(at) else None


def _print(trace: TraceReader, row: int, op: str) -> int:
    """The fingerprint of an op's row, 0 where the trace has none."""
    return int(trace.fingerprints(row, row + 1)[0, trace.ops.index(op)]) if op in trace.ops else 0


def _served(trace: TraceReader, request: str, step: int) -> int:
    """How many leading positions a hit had served the request when it last began before the step."""
    served = 0
    for each in trace.steps():
        if each.index > step:
            break
        for event in each.events:
            if event.request == request:
                served = event.tokens if event.kind == EventKind.HIT else 0
    return served


def _written(
    trace: TraceReader,
    place: Place,
    positions: Sequence[int],
    served: int,
    writes: Mapping[tuple[str, int], Sequence[int]],
) -> list[set[int]]:
    """Of each position, the fingerprints of what may have been written where the row reads it.

    A position that a hit served was written by any request with the same tokens up to there.
    """
    taken = trace.taken_tokens()
    tokens = {request.id: [*request.prompt, *taken[request.id]] for request in trace.requests}
    found = []
    for position in positions:
        if position >= served:
            found.append(set(writes.get((place.request, position), ())[-1:]))
            continue
        prefix = tokens[place.request][: position + 1]
        alike = [request for request in tokens if tokens[request][: position + 1] == prefix]
        found.append({print_ for request in alike for print_ in writes.get((request, position), ())})
    return found

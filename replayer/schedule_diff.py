"""Where two runs were scheduled differently, step by step, and where they drew with other seeds.

A difference here is no divergence: a deterministic engine gives the same bits under any schedule. It is
what to look at first when the bits did change.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detrec.engines.base import EventKind
from detrec.printable import counted
from detrec.recorder.schema import EVENT_KINDS, KINDS
from detrec.replayer.align import Alignment
from detrec.replayer.trace import Samples, Trace

SHOWN = 20
_SHOWN_SLICES = 6
_EVENTS = {EventKind.PREEMPTED: "preemption", EventKind.HIT: "hit"}
# the KV block of a slice is where the engine happened to put it, not a decision of the schedule
_SLICE = ("request", "start", "stop", "kind", "samples")


@dataclass(frozen=True, slots=True)
class ScheduleDifference:
    """Step `step` differs in `what`: steps, slices, order, boundaries, kind, preemption, hit or seed."""

    step: int
    what: str
    recorded: str
    replayed: str


@dataclass(frozen=True, slots=True)
class ScheduleDiff:
    """The first differences in step order, at most SHOWN of `total`."""

    shown: tuple[ScheduleDifference, ...] = ()
    total: int = 0

    def __add__(self, other: "ScheduleDiff") -> "ScheduleDiff":
        """Both, in step order."""
        shown = sorted(self.shown + other.shown, key=lambda difference: difference.step)
        return ScheduleDiff(tuple(shown[:SHOWN]), self.total + other.total)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What each step of a run consists of: `columns[0]` is the request; step i has [edges[i], edges[i +
    1]).
    """

    columns: tuple[np.ndarray, ...]
    edges: np.ndarray

    def of(self, step: int) -> list[tuple[int, ...]]:
        part = slice(self.edges[step], self.edges[step + 1])
        return list(zip(*(column[part].tolist() for column in self.columns), strict=True))


def schedule_diff(
    recorded: Trace,
    replayed: Trace,
    numbers: tuple[np.ndarray, np.ndarray],
    ids: Sequence[str],
    *,
    prefix: bool = False,
) -> ScheduleDiff:
    """Compare the n-th step of one run with the n-th of the other.

    `numbers` number the requests of either run alike, and `ids` are their names by that number. `prefix`: the
    recording stopped early, so that steps after its end are no difference.
    """
    ours, theirs = (_slices(run, number) for run, number in zip((recorded, replayed), numbers, strict=True))
    steps = min(recorded.n_steps, replayed.n_steps)
    found = ScheduleDiff()
    differing = _differing(ours, theirs, steps)
    shown = [
        _slice_difference(step, ours.of(step), theirs.of(step), ids) for step in differing[:SHOWN].tolist()
    ]
    found += ScheduleDiff(tuple(shown), len(differing))
    for kind, what in _EVENTS.items():
        left, right = (
            _events(run, number, kind) for run, number in zip((recorded, replayed), numbers, strict=True)
        )
        differing = _differing(left, right, steps)
        shown = [
            ScheduleDifference(step, what, _event_text(left.of(step), ids), _event_text(right.of(step), ids))
            for step in differing[:SHOWN].tolist()
        ]
        found += ScheduleDiff(tuple(shown), len(differing))
    if recorded.n_steps > steps or (replayed.n_steps > steps and not prefix):
        texts = (
            _slice_text(run.of(steps), ids) if run.edges[-1] > run.edges[steps] else "ended"
            for run in (ours, theirs)
        )
        found += ScheduleDiff((ScheduleDifference(steps, "steps", *texts),), 1)
    return found


def seed_diff(
    recorded: Samples, replayed: Samples, aligned: Alignment, requests: Sequence[str]
) -> ScheduleDiff:
    """Draws of one place that were keyed by another seed or counter. `requests`: the recorded ids."""
    ours, theirs = aligned.recorded, aligned.replayed
    differ = (recorded.seed[ours] != replayed.seed[theirs]) | (
        recorded.counter[ours] != replayed.counter[theirs]
    )
    at = np.flatnonzero(differ)
    shown = []
    for here, there in zip(ours[at[:SHOWN]], theirs[at[:SHOWN]], strict=True):
        place = f"{requests[recorded.request[here]]}[{recorded.position[here]}]"
        left = f"{place} seed {recorded.seed[here]} counter {recorded.counter[here]}"
        right = f"{place} seed {replayed.seed[there]} counter {replayed.counter[there]}"
        shown.append(ScheduleDifference(int(recorded.step[here]), "seed", left, right))
    return ScheduleDiff(tuple(shown), len(at))


def served_from_cache(trace: Trace, number: np.ndarray, n_requests: int) -> np.ndarray:
    """The most leading positions of each request that a prefix-cache hit served, int64 [n_requests]."""
    hits = _events(trace, number, EventKind.HIT)
    served = np.zeros(n_requests, np.int64)
    np.maximum.at(served, hits.columns[0], hits.columns[1])
    return served


def generations(trace: Trace, number: np.ndarray, request: np.ndarray, step: np.ndarray) -> np.ndarray:
    """How often each entry's request had been preempted when its step ran, int32 [entries]."""
    preempted = _events(trace, number, EventKind.PREEMPTED)
    if not len(preempted.columns[0]):
        return np.zeros(len(request), np.int32)
    # one line of numbers in which each request has a stretch as long as the run
    stretch = trace.n_steps + 1
    at = preempted.columns[0] * np.int64(stretch) + np.repeat(
        np.arange(trace.n_steps), np.diff(preempted.edges)
    )
    at.sort()
    begin = request * np.int64(stretch)
    return (np.searchsorted(at, begin + step, side="right") - np.searchsorted(at, begin)).astype(np.int32)


def _slices(trace: Trace, number: np.ndarray) -> _Parts:
    request, *others = (trace.column(f"slices/{name}") for name in _SLICE)
    return _Parts((number[request], *others), np.append(trace.column("steps/slice_start"), len(request)))


def _events(trace: Trace, number: np.ndarray, kind: EventKind) -> _Parts:
    step, code, request, tokens = (
        trace.column(f"events/{name}") for name in ("step", "kind", "request", "tokens")
    )
    at = np.flatnonzero(code == EVENT_KINDS.index(kind))
    edges = np.searchsorted(step[at], np.arange(trace.n_steps + 1))
    return _Parts((number[request[at]], tokens[at]), edges)


def _differing(ours: _Parts, theirs: _Parts, steps: int) -> np.ndarray:
    """The steps, of the first `steps`, whose parts are not the same in the same order."""
    size = np.diff(ours.edges[: steps + 1])
    differs = size != np.diff(theirs.edges[: steps + 1])
    step = np.repeat(np.flatnonzero(~differs), size[~differs])
    size = np.where(differs, 0, size)
    within = np.arange(len(step)) - np.repeat(np.cumsum(size) - size, size)
    left, right = ours.edges[step] + within, theirs.edges[step] + within
    for mine, other in zip(ours.columns, theirs.columns, strict=True):
        differs[step[mine[left] != other[right]]] = True
    return np.flatnonzero(differs)


def _slice_difference(
    step: int, recorded: list[tuple[int, ...]], replayed: list[tuple[int, ...]], ids: Sequence[str]
) -> ScheduleDifference:
    if sorted(recorded) == sorted(replayed):
        what = "order"
    elif {part[0] for part in recorded} != {part[0] for part in replayed}:
        what = "slices"
    elif sorted(part[:3] for part in recorded) != sorted(part[:3] for part in replayed):
        what = "boundaries"
    else:
        what = "kind"
    texts = (_slice_text(parts, ids, kind=what == "kind") for parts in (recorded, replayed))
    return ScheduleDifference(step, what, *texts)


def _slice_text(parts: list[tuple[int, ...]], ids: Sequence[str], *, kind: bool = False) -> str:
    """`r0[0:16) r1[5:6)`, with kind and sampling where these are the difference."""
    texts = [
        f"{ids[request]}[{start}:{stop})"
        + (f" {KINDS[code]}{', samples' if samples else ''}" if kind else "")
        for request, start, stop, code, samples in parts[:_SHOWN_SLICES]
    ]
    more = len(parts) - _SHOWN_SLICES
    return " ".join(texts) + (f" and {more} more" if more > 0 else "")


def _event_text(events: list[tuple[int, ...]], ids: Sequence[str]) -> str:
    texts = [f"{ids[request]} {counted(tokens, 'token')}" for request, tokens in events[:_SHOWN_SLICES]]
    more = len(events) - _SHOWN_SLICES
    return (", ".join(texts) or "none") + (f" and {more} more" if more > 0 else "")

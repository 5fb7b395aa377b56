"""Which step of one run stands beside which of the other.

A step is known again by what it computes: the same tokens of the same requests. Between steps that are known
again, steps stand together in their order.
"""

from bisect import bisect_left

import numpy as np

from detrec.recorder.schema import EVENT_KINDS
from detrec.replayer.survey.runs import Runs
from detrec.replayer.survey.side import Side


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


def work(runs: Runs, side: Side) -> np.ndarray:
    """A number for what each step computes, whatever the order, uint64 [steps]."""
    step, _, of = _columns(runs, side)
    return _summed(step, of, side.n_steps)


def traits(runs: Runs, side: Side) -> dict[str, np.ndarray]:
    """By name a number for each step, uint64 [steps]: equal where that of two steps is equal.

    slices, whatever their order; order, of requests; kind, which is all of the slices; events before the
    step; requests that finished with it.
    """
    step, place, of = _columns(runs, side)
    whole = [place, *of, side.column("slices/kind"), side.column("slices/samples")]
    at = side.column("events/step").astype(np.int64)
    finished = side.column("events/kind") == EVENT_KINDS.index("finished")
    happened = {}
    for name, kept in (("events", ~finished), ("finished", finished)):
        own = at[kept]
        columns = [side.column("events/kind"), runs.numbers(side)[side.column("events/request")]]
        columns.append(side.column("events/tokens"))
        among = np.arange(len(own)) - np.searchsorted(own, own)
        happened[name] = _summed(own, [among, *(column[kept] for column in columns)], side.n_steps)
    return {
        "slices": _summed(step, of, side.n_steps),
        "order": _summed(step, [place, of[0]], side.n_steps),
        "kind": _summed(step, whole, side.n_steps),
        **happened,
    }


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


def aligned(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
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
    """Steps that both runs have, in one order: the longest increasing run of those that occur once
    in each.
    """
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

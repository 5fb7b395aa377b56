"""Which row of one run stands beside which row of another: by request and position, never by step.

Pure: arrays in, arrays out. A position that a run computed more than once (preemption) counts by its latest
row. Its earlier rows are looked at too, because what was drawn from them stands; they are not counted.
"""

from dataclasses import dataclass

import numpy as np

from detrec.errors import TraceCorrupt


@dataclass(frozen=True, slots=True)
class Places:
    """Entry i is position `position[i]` of request `request[i]`; of one place, the latest entry counts.

    Int arrays [n]; requests are numbered alike in both runs. `generation[i]`: how often the request had been
    preempted before. `cached[r]`: how many leading positions of request r a prefix cache served at most, int
    [requests].
    """

    request: np.ndarray
    position: np.ndarray
    generation: np.ndarray
    cached: np.ndarray

    def __len__(self) -> int:
        return len(self.request)


@dataclass(frozen=True, slots=True)
class Alignment:
    """Entries of two runs side by side, all int64 arrays of entry numbers.

    `recorded[i]` and `replayed[i]` stand at one place, in the recorded run's order. `only_recorded` and
    `only_replayed` have nothing beside them. Left out of those: `cached` places that the other run had from
    its prefix cache, and `beyond` places after the end of a recording that was never closed. `superseded`
    counts the entries of both runs that a later one replaced.
    """

    recorded: np.ndarray
    replayed: np.ndarray
    only_recorded: np.ndarray
    only_replayed: np.ndarray
    cached: int
    beyond: int
    superseded: int


def align(recorded: Places, replayed: Places, *, prefix: bool = False) -> Alignment:
    """Match two runs by place. `prefix`: the recording stopped early, what came after it is not missed."""
    offsets = _offsets(recorded, replayed)
    left, right = _latest(recorded, offsets), _latest(replayed, offsets)

    partner = np.full(len(recorded), -1, np.int64)
    both = (left >= 0) & (right >= 0)
    partner[left[both]] = right[both]
    matched = np.flatnonzero(partner >= 0)

    only_recorded = np.sort(left[(left >= 0) & (right < 0)])
    only_replayed = np.sort(right[(right >= 0) & (left < 0)])
    kept_recorded = only_recorded[~_served(recorded, only_recorded, replayed.cached)]
    kept_replayed = only_replayed[~_served(replayed, only_replayed, recorded.cached)]
    cached = len(only_recorded) + len(only_replayed) - len(kept_recorded) - len(kept_replayed)
    beyond = 0
    if prefix:
        last = np.full(len(offsets) - 1, -1, np.int64)
        np.maximum.at(last, recorded.request, recorded.position)
        after = replayed.position[kept_replayed] > last[replayed.request[kept_replayed]]
        beyond, kept_replayed = int(np.count_nonzero(after)), kept_replayed[~after]
    superseded = len(recorded) + len(replayed) - sum(int((table >= 0).sum()) for table in (left, right))
    return Alignment(matched, partner[matched], kept_recorded, kept_replayed, cached, beyond, superseded)


def earlier_pairs(recorded: Places, replayed: Places) -> tuple[np.ndarray, np.ndarray]:
    """Superseded entries of either run beside what the other had at that place, in recorded order.

    That is its entry of the same generation, else its latest.
    """
    offsets = _offsets(recorded, replayed)
    latest = [_latest(run, offsets) for run in (recorded, replayed)]
    keys = [_keys(run, offsets) for run in (recorded, replayed)]
    older = [
        np.flatnonzero(table[key] != np.arange(len(key))) for table, key in zip(latest, keys, strict=True)
    ]
    if not len(older[0]) and not len(older[1]):
        return older[0], older[1]
    names = [
        (run.generation[some].astype(np.int64) * offsets[-1]) + key[some]
        for run, key, some in zip((recorded, replayed), keys, older, strict=True)
    ]
    _, ours, theirs = np.intersect1d(names[0], names[1], assume_unique=True, return_indices=True)
    left, right = np.setdiff1d(older[0], older[0][ours]), np.setdiff1d(older[1], older[1][theirs])
    here = np.concatenate([older[0][ours], left, latest[0][keys[1][right]]])
    there = np.concatenate([older[1][theirs], latest[1][keys[0][left]], right])
    known = (here >= 0) & (there >= 0)
    here, there = here[known], there[known]
    order = np.argsort(here, kind="stable")
    return here[order], there[order]


def sampling_rows(rows: Places, row_step: np.ndarray, samples: Places, sample_step: np.ndarray) -> np.ndarray:
    """The row that each sample was drawn from, int64; a later row at its place (preemption) did not sample.

    Raises TraceCorrupt for a sample that no row of its step can have given.
    """
    offsets = _offsets(rows, samples)
    latest = _latest(rows, offsets)
    found = latest[_keys(samples, offsets)]
    stale = (
        np.flatnonzero((found < 0) | (row_step[found] != sample_step))
        if len(rows)
        else np.arange(len(samples))
    )
    if len(stale):
        replaced = np.ones(len(rows), bool)
        replaced[latest[latest >= 0]] = False
        older = np.flatnonzero(replaced)
        steps = 1 + max(int(row_step.max(initial=0)), int(sample_step.max(initial=0)))
        names = _keys(rows, offsets)[older] * steps + row_step[older]
        order = np.argsort(names)
        wanted = _keys(samples, offsets)[stale] * steps + sample_step[stale]
        at = np.searchsorted(names[order], wanted)
        known = at < len(names)
        known[known] = names[order][at[known]] == wanted[known]
        if not known.all():
            lost = stale[np.flatnonzero(~known)[0]]
            raise TraceCorrupt(
                f"sample {lost} of step {int(sample_step[lost])}: no row of that step stands at its position "
                f"{int(samples.position[lost])}"
            )
        found[stale] = older[order[at]]
    return found


def _offsets(left: Places, right: Places) -> np.ndarray:
    """Where the places of each request begin when all are laid in one line, int64 [requests + 1]."""
    sizes = np.zeros(max(len(left.cached), len(right.cached)), np.int64)
    for run in (left, right):
        np.maximum.at(sizes, run.request, run.position.astype(np.int64) + 1)
    return np.concatenate(([0], np.cumsum(sizes)))


def _keys(run: Places, offsets: np.ndarray) -> np.ndarray:
    return offsets[run.request] + run.position


def _latest(run: Places, offsets: np.ndarray) -> np.ndarray:
    table = np.full(offsets[-1], -1, np.int64)
    np.maximum.at(table, _keys(run, offsets), np.arange(len(run)))
    return table


def _served(run: Places, entries: np.ndarray, cached: np.ndarray) -> np.ndarray:
    served: np.ndarray = run.position[entries] < cached[run.request[entries]]
    return served

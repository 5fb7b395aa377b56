"""How many KV blocks a run held, step by step, and what the prefix cache served."""

from dataclasses import dataclass

import numpy as np

from detrec.engines.base import EventKind
from detrec.recorder.schema import EVENT_KINDS
from detrec.replayer.schedule_diff import generations
from detrec.replayer.survey.side import Side


@dataclass(frozen=True, slots=True)
class Happened:
    """`tokens` positions of a request were lost by a preemption before a step, or served by a hit."""

    step: int
    request: str
    tokens: int


@dataclass(frozen=True, slots=True)
class KvUse:
    """`held[step]`: blocks of all running requests together, int64 [steps]; one that requests share counts
    for each.

    `blocks` is how many the cache has, None where the trace does not say; `served` of `computed` + `served`
    positions came from the prefix cache.
    """

    held: np.ndarray
    blocks: int | None
    block_size: int
    hits: tuple[Happened, ...]
    preemptions: tuple[Happened, ...]
    served: int
    computed: int


def kv_use(side: Side) -> KvUse | None:
    """What a run held; None where its manifest gives no block size."""
    engine = side.manifest.get("config", {}).get("engine", {})
    size = engine.get("block_size")
    if not isinstance(size, int) or size < 1:
        return None
    blocks = side.manifest.get("engine", {}).get("num_blocks")
    hits, preemptions = (_happened(side, kind) for kind in (EventKind.HIT, EventKind.PREEMPTED))
    return KvUse(
        _held(side, size),
        blocks if isinstance(blocks, int) else None,
        size,
        hits,
        preemptions,
        sum(hit.tokens for hit in hits),
        side.n_rows,
    )


def _held(side: Side, size: int) -> np.ndarray:
    """A request grows with its slices and gives all back when it is preempted or has finished."""
    request = side.column("slices/request")
    step = side.column("slices/step").astype(np.int64)
    blocks = -(-side.column("slices/stop").astype(np.int64) // size)
    change = np.zeros(side.n_steps + 1, np.int64)
    if not len(step):
        return change[:-1]
    generation = generations(side, np.arange(len(side.requests), dtype=np.int32), request, step)
    # a stable order: slices of one request stay in theirs
    order = np.lexsort((generation, request))
    of, time = request[order], generation[order]
    begins = (np.diff(of, prepend=-1) != 0) | (np.diff(time, prepend=-1) != 0)
    grown = np.where(begins, blocks[order], np.diff(blocks[order], prepend=0))
    np.add.at(change, step[order], grown)
    ends = np.append(np.flatnonzero(begins)[1:], len(order)) - 1
    released = {of: end + 1 for of, end in _steps_of(side, EventKind.FINISHED)}
    counts: dict[int, int] = {}
    preempted = {}
    for number, at in _steps_of(side, EventKind.PREEMPTED):
        preempted[number, counts.get(number, 0)] = at
        counts[number] = counts.get(number, 0) + 1
    for end in ends.tolist():
        number, began = int(of[end]), int(time[end])
        release = preempted.get((number, began), released.get(number))
        if release is not None:
            change[min(release, side.n_steps)] -= int(blocks[order[end]])
    return np.cumsum(change[:-1])


def _steps_of(side: Side, kind: EventKind) -> list[tuple[int, int]]:
    """(request, step) of every event of a kind, in order."""
    at = np.flatnonzero(side.column("events/kind") == EVENT_KINDS.index(kind))
    columns = (side.column(f"events/{name}")[at].tolist() for name in ("request", "step"))
    return list(zip(*columns, strict=True))


def _happened(side: Side, kind: EventKind) -> tuple[Happened, ...]:
    at = np.flatnonzero(side.column("events/kind") == EVENT_KINDS.index(kind))
    columns = (side.column(f"events/{name}")[at].tolist() for name in ("step", "request", "tokens"))
    return tuple(
        Happened(step, side.requests[number].id, tokens)
        for step, number, tokens in zip(*columns, strict=True)
    )

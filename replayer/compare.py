"""Two traces of one workload, compared bit for bit.

Rows stand side by side by request and position, so a schedule difference alone is no divergence. Missing is
never equal: a run that lost a cell, and differs nowhere else, is `incomplete`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detrec.replayer.agreement import ranks_disagree
from detrec.replayer.align import Alignment, Places, align, earlier_pairs, sampling_rows
from detrec.replayer.cells import Cells, Pairs, compare_cells, join
from detrec.replayer.columns import Columns, columns_of, recorded_columns, sample_ops
from detrec.replayer.comparison import Comparison, Counts, RowCounts
from detrec.replayer.divergence import Divergence, DivergentRows, born, first_of, split_name
from detrec.replayer.lanes import Lanes
from detrec.replayer.manifest_diff import manifest_diff
from detrec.replayer.schedule_diff import generations, schedule_diff, seed_diff, served_from_cache
from detrec.replayer.tokens import compare_tokens
from detrec.replayer.trace import Samples, Trace

_NEVER = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class _Run:
    """One side.

    `number[i]`: the number of its request i, the same in both runs. `sampled`: the row of each draw.
    """

    trace: Trace
    number: np.ndarray
    rows: Places
    draws: Samples
    samples: Places
    sampled: np.ndarray


def compare(
    recorded: Trace, replayed: Trace, *, progress: Callable[[str, int, int], None] | None = None
) -> Comparison:
    """Compare two traces by fingerprints, tokens, schedule and manifest.

    A recording that was never closed is compared up to its last committed row: what the replay did after that
    counts as `rows.beyond`, not as missing. Raises TraceCorrupt for a trace that contradicts itself.
    """
    begin = time.perf_counter()
    prefix = recorded.status != "complete"
    ids = tuple(dict.fromkeys(request.id for run in (recorded, replayed) for request in run.requests))
    ours, theirs = _run(recorded, ids), _run(replayed, ids)
    rows = align(ours.rows, theirs.rows, prefix=prefix)
    samples = align(ours.samples, theirs.samples, prefix=prefix)
    own_ids = tuple(request.id for request in recorded.requests)
    tokens, flips = compare_tokens(ours.draws, theirs.draws, samples, own_ids)
    schedule = schedule_diff(recorded, replayed, (ours.number, theirs.number), ids, prefix=prefix)

    columns = columns_of(recorded, replayed)
    masks = tuple(
        _mask(run, lanes, common)
        for run, lanes, common in zip(
            (ours, theirs), columns.lanes, (columns.recorded, columns.replayed), strict=True
        )
    )
    cells, divergent = _compare_cells(ours, theirs, columns, masks, rows, samples, progress)
    missing = cells.missing + _lost(ours, theirs, columns, masks, rows, samples)
    flipped_at = _places(ours.samples, samples.recorded[flips])
    own = born(divergent, _flipped(ours, theirs, rows, flipped_at, len(ids)))
    n_born = int(divergent.at_op[own].sum())
    counts = Counts(
        cells.compared, cells.compared - cells.divergent, n_born, cells.divergent - n_born, missing
    )
    row_counts = _row_counts(ours, theirs, rows, flipped_at, len(ids))
    at = first_of(divergent, own, recorded.row_step)
    if counts.born or counts.inherited or len(flips):
        verdict = "diverged"
    else:
        whole = counts.compared and not counts.missing and not row_counts.missing and tokens.equal
        verdict = "identical" if whole else "incomplete"
    alike = verdict == "identical" and recorded.ranks == replayed.ranks
    disagreement = ranks_disagree(recorded)
    return Comparison(
        verdict=verdict,
        first=None if at is None else _describe(recorded, replayed, columns, divergent, at, ids),
        counts=counts,
        rows=row_counts,
        tokens=tokens,
        manifest_diff=manifest_diff(recorded, replayed),
        schedule_diff=schedule + seed_diff(ours.draws, theirs.draws, samples, own_ids),
        kernels=None if at is None else _kernels(recorded, replayed, columns, divergent, at),
        ops=columns.names,
        ranks=len(columns.lanes[0]),
        incomparable=columns.incomparable,
        divergent=divergent,
        born=own,
        disagreements=(disagreement, disagreement if alike else ranks_disagree(replayed)),
        unread=cells.unread,
        seconds=time.perf_counter() - begin,
    )


def _run(trace: Trace, ids: tuple[str, ...]) -> _Run:
    index = {name: number for number, name in enumerate(ids)}
    number = np.array([index[request.id] for request in trace.requests], np.int32)
    cached = served_from_cache(trace, number, len(ids))
    request = number[trace.row_request]
    rows = Places(request, trace.row_position, generations(trace, number, request, trace.row_step), cached)
    draws = trace.samples()
    # a cache serves no draw: what one run drew and the other did not is always missing
    request = number[draws.request]
    generation = generations(trace, number, request, draws.step)
    samples = Places(request, draws.position, generation, np.zeros_like(cached))
    return _Run(trace, number, rows, draws, samples, sampling_rows(rows, trace.row_step, samples, draws.step))


def _pairs(places: Places, entries: np.ndarray, recorded: np.ndarray, replayed: np.ndarray) -> Pairs:
    return Pairs(
        recorded, replayed, places.request[entries], places.generation[entries], places.position[entries]
    )


def _compare_cells(
    ours: _Run,
    theirs: _Run,
    columns: Columns,
    masks: tuple[np.ndarray, ...],
    rows: Alignment,
    samples: Alignment,
    progress: Callable[[str, int, int], None] | None,
) -> tuple[Cells, DivergentRows]:
    mask = masks[0][columns.recorded] | masks[1][columns.replayed]
    drawn = ours.sampled[samples.recorded], theirs.sampled[samples.replayed]
    cells, divergent = compare_cells(
        ours.trace,
        theirs.trace,
        columns,
        _pairs(ours.rows, rows.recorded, rows.recorded, rows.replayed),
        _pairs(ours.samples, samples.recorded, *drawn),
        mask,
        progress=lambda done, total: progress("compare", done, total) if progress else None,
    )
    here, there = earlier_pairs(ours.rows, theirs.rows)
    if len(here):
        pairs = _pairs(ours.rows, here, here, there)
        earlier, older = compare_cells(ours.trace, theirs.trace, columns, pairs, pairs[:0], mask)
        # an earlier computation that was equal proves nothing more; one that was not is where it went wrong
        cells.compared += earlier.divergent
        cells.divergent += earlier.divergent
        divergent = join((divergent, older))
    return cells, divergent


def _mask(run: _Run, lanes: Lanes, common: np.ndarray) -> np.ndarray:
    """Which columns a run records at all, bool [its ops, lanes]; of ops that it alone has, by rank."""
    by_rank = recorded_columns(run.trace, run.sampled[:1])
    mask = np.zeros((len(by_rank), len(lanes)), bool)
    mask[:, : lanes.n_ranks] = by_rank
    mask[common] = lanes.recorded(by_rank[common])
    return mask


def _lost(
    ours: _Run,
    theirs: _Run,
    columns: Columns,
    masks: tuple[np.ndarray, ...],
    rows: Alignment,
    samples: Alignment,
) -> int:
    """Cells that have no row, or no column, beside them in the other run."""
    total = 0
    for run, mask, common, extra, only_rows, only_samples in (
        (ours, masks[0], columns.recorded, columns.only_recorded, rows.only_recorded, samples.only_recorded),
        (
            theirs,
            masks[1],
            columns.replayed,
            columns.only_replayed,
            rows.only_replayed,
            samples.only_replayed,
        ),
    ):
        on_samples = sample_ops(run.trace.ops)
        for of, n_rows, n_samples in (
            (common, len(only_rows), len(only_samples)),
            (extra, len(only_rows) + len(rows.recorded), len(only_samples) + len(samples.recorded)),
        ):
            on = on_samples[of]
            total += n_rows * int(mask[of[~on]].sum()) + n_samples * int(mask[of[on]].sum())
    return total


def _places(run: Places, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return run.request[entries], run.position[entries]


def _flipped(
    ours: _Run, theirs: _Run, rows: Alignment, flips: tuple[np.ndarray, np.ndarray], n_requests: int
) -> np.ndarray:
    """The first position of each request whose input token differs because the draw before it did."""
    differ = rows.recorded[ours.trace.row_token[rows.recorded] != theirs.trace.row_token[rows.replayed]]
    request, position = _places(ours.rows, differ)
    # an input that was given differently is a cause of its own, born at the first op
    drawn = np.isin(
        request.astype(np.int64) << 32 | position, flips[0].astype(np.int64) << 32 | (flips[1] + 1)
    )
    flipped = np.full(n_requests, _NEVER, np.int64)
    np.minimum.at(flipped, request[drawn], position[drawn])
    return flipped


def _row_counts(
    ours: _Run, theirs: _Run, rows: Alignment, flips: tuple[np.ndarray, np.ndarray], n_requests: int
) -> RowCounts:
    drawn = np.full(n_requests, _NEVER, np.int64)
    np.minimum.at(drawn, *flips)
    after = 0
    for run, only in ((ours, rows.only_recorded), (theirs, rows.only_replayed)):
        request, position = _places(run.rows, only)
        after += int(np.count_nonzero(position > drawn[request]))
    missing = len(rows.only_recorded) + len(rows.only_replayed)
    return RowCounts(len(rows.recorded), rows.cached, rows.superseded, missing, after, rows.beyond)


def _describe(
    recorded: Trace, replayed: Trace, columns: Columns, rows: DivergentRows, at: int, ids: tuple[str, ...]
) -> Divergence:
    row, other, op = int(rows.row[at]), int(rows.other[at]), int(rows.op[at])
    lanes = columns.lanes
    here, there = (
        lane.of([run.fingerprints(at, at + 1, rank)[:, which] for rank in range(lane.n_ranks)])[0, op]
        for run, lane, which, at in (
            (recorded, lanes[0], columns.recorded, row),
            (replayed, lanes[1], columns.replayed, other),
        )
    )
    lane = int(np.flatnonzero((here != there) & (here != 0) & (there != 0))[0])
    rank = None if lanes[0].cut is not None and lanes[0].cut[op] else lane
    layer, name = split_name(columns.names[op])
    step, request, position = int(recorded.row_step[row]), ids[rows.request[at]], int(rows.position[at])
    return Divergence(step, request, position, layer, name, rank, int(here[lane]), int(there[lane]))


def _kernels(
    recorded: Trace, replayed: Trace, columns: Columns, rows: DivergentRows, at: int
) -> tuple[str, str] | None:
    """The kernels behind one divergent row's first op in both runs, where they are not the same."""
    op = rows.op[at]
    here = recorded.kernels_of(int(recorded.row_step[rows.row[at]]))[columns.recorded[op]]
    there = replayed.kernels_of(int(replayed.row_step[rows.other[at]]))[columns.replayed[op]]
    return (here, there) if here != there else None

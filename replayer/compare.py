"""Two traces of one workload, compared bit for bit.

Rows stand side by side by request and position, so a schedule difference alone is no divergence. Missing is
never equal: a run that lost a cell, and differs nowhere else, is `incomplete`.
"""

import time
from collections.abc import Callable

import numpy as np

from detrec.replayer.agreement import Disagreement, ranks_disagree
from detrec.replayer.align import Places
from detrec.replayer.cells import Cells, Pairs, compare_cells, join
from detrec.replayer.columns import sample_ops
from detrec.replayer.comparison import Comparison, Counts, RowCounts
from detrec.replayer.divergence import Divergence, DivergentRows, born, first_of, split_name
from detrec.replayer.manifest_diff import manifest_diff
from detrec.replayer.pairing import Pairing, pairing
from detrec.replayer.schedule_diff import ScheduleDiff, schedule_diff, seed_diff
from detrec.replayer.step_map import StepMap
from detrec.replayer.tokens import Tokens, compare_tokens
from detrec.replayer.trace import Trace

_NEVER = np.iinfo(np.int32).max


def compare(
    recorded: Trace,
    replayed: Trace,
    *,
    pairs: Pairing | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    sighted: Callable[[Divergence], None] | None = None,
) -> Comparison:
    """Compare two traces by fingerprints, tokens, schedule and manifest; `pairs` where they are paired
    already.

    A recording that was never closed is compared up to its last committed row: what the replay did after
    that counts as `rows.beyond`, not as missing. `sighted` is told of the first divergence that is met,
    long before the end: as a rule it is the first there is. Raises TraceCorrupt for a trace that
    contradicts itself.
    """
    begin = time.perf_counter()
    pairs = pairs or pairing(recorded, replayed)
    ids = tuple(request.id for request in recorded.requests)
    draws = pairs.recorded.draws, pairs.replayed.draws
    tokens, flips = compare_tokens(*draws, pairs.samples, ids)
    steps = StepMap(recorded.row_step, recorded.n_steps, len(pairs.columns.names), pairs.columns.n_lanes)
    cells, divergent = _compare_cells(pairs, steps, progress, sighted)
    flipped_at = _places(pairs.recorded.samples, pairs.samples.recorded[flips])
    own = born(divergent, _flipped(pairs, flipped_at))
    at = first_of(divergent, own, recorded.row_step)
    counts = _counts(pairs, cells, int(divergent.at_op[own].sum()))
    row_counts = _row_counts(pairs, flipped_at)
    verdict = _verdict(counts, row_counts, tokens, flipped=len(flips) > 0)
    return Comparison(
        verdict=verdict,
        first=None if at is None else _describe(pairs, divergent, at),
        counts=counts,
        rows=row_counts,
        tokens=tokens,
        manifest_diff=manifest_diff(recorded, replayed),
        schedule_diff=_schedule(pairs) + seed_diff(*draws, pairs.samples, ids),
        kernels=None if at is None else _kernels(pairs, divergent, at),
        ops=pairs.columns.names,
        ranks=pairs.columns.n_lanes,
        incomparable=pairs.columns.incomparable,
        divergent=divergent,
        born=own,
        disagreements=_disagreements(recorded, replayed, verdict),
        unread=cells.unread,
        seconds=time.perf_counter() - begin,
        steps=steps,
    )


def _counts(pairs: Pairing, cells: Cells, n_born: int) -> Counts:
    inherited = cells.divergent - n_born
    equal, missing = cells.compared - cells.divergent, cells.missing + _lost(pairs)
    return Counts(cells.compared, equal, n_born, inherited, missing)


def _verdict(counts: Counts, rows: RowCounts, tokens: Tokens, *, flipped: bool) -> str:
    """`flipped`: a token was drawn differently."""
    if counts.born or counts.inherited or flipped:
        return "diverged"
    whole = counts.compared and not counts.missing and not rows.missing and tokens.equal
    return "identical" if whole else "incomplete"


def _schedule(pairs: Pairing) -> ScheduleDiff:
    recorded, replayed = pairs.recorded, pairs.replayed
    return schedule_diff(
        *(recorded.trace, replayed.trace, (recorded.number, replayed.number), pairs.ids),
        prefix=recorded.trace.status != "complete",
    )


def _disagreements(
    recorded: Trace, replayed: Trace, verdict: str
) -> tuple[Disagreement | None, Disagreement | None]:
    """Where the ranks of either run first disagree; of two runs that are the same it is the same."""
    found = ranks_disagree(recorded)
    alike = verdict == "identical" and recorded.ranks == replayed.ranks
    return found, found if alike else ranks_disagree(replayed)


def _beside(places: Places, entries: np.ndarray, recorded: np.ndarray, replayed: np.ndarray) -> Pairs:
    return Pairs(
        recorded, replayed, places.request[entries], places.generation[entries], places.position[entries]
    )


def _compare_cells(
    pairs: Pairing,
    steps: StepMap,
    progress: Callable[[str, int, int], None] | None,
    sighted: Callable[[Divergence], None] | None,
) -> tuple[Cells, DivergentRows]:
    ours, theirs, rows, samples = pairs.recorded, pairs.replayed, pairs.rows, pairs.samples
    drawn = ours.sampled[samples.recorded], theirs.sampled[samples.replayed]
    cells, divergent = compare_cells(
        ours.trace,
        theirs.trace,
        pairs.columns,
        _beside(ours.rows, rows.recorded, rows.recorded, rows.replayed),
        _beside(ours.samples, samples.recorded, *drawn),
        pairs.mask,
        steps=steps,
        progress=lambda done, total: progress("compare", done, total) if progress else None,
        sighted=None if sighted is None else lambda found: sighted(_earliest(pairs, found)),
    )
    here, there = pairs.earlier
    if len(here):
        again = _beside(ours.rows, here, here, there)
        earlier, older = compare_cells(
            ours.trace, theirs.trace, pairs.columns, again, again[:0], pairs.mask, steps=steps
        )
        # an earlier computation that was equal proves nothing more; one that was not is where it went wrong
        cells.compared += earlier.divergent
        cells.divergent += earlier.divergent
        divergent = join((divergent, older))
    return cells, divergent


def _earliest(pairs: Pairing, rows: DivergentRows) -> Divergence:
    at = first_of(rows, np.zeros(len(rows), bool), pairs.recorded.trace.row_step)
    assert at is not None, "nothing was sighted"
    return _describe(pairs, rows, at)


def _lost(pairs: Pairing) -> int:
    """Cells that have no row, or no column, beside them in the other run."""
    total = 0
    columns, rows, samples = pairs.columns, pairs.rows, pairs.samples
    for run, mask, common, extra, only_rows, only_samples in (
        (
            pairs.recorded,
            pairs.masks[0],
            columns.recorded,
            columns.only_recorded,
            rows.only_recorded,
            samples.only_recorded,
        ),
        (
            pairs.replayed,
            pairs.masks[1],
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


def _flipped(pairs: Pairing, flips: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The first position of each request whose input token differs because the draw before it did."""
    ours, theirs, rows = pairs.recorded, pairs.replayed, pairs.rows
    differ = rows.recorded[ours.trace.row_token[rows.recorded] != theirs.trace.row_token[rows.replayed]]
    request, position = _places(ours.rows, differ)
    # an input that was given differently is a cause of its own, born at the first op
    drawn = np.isin(
        request.astype(np.int64) << 32 | position, flips[0].astype(np.int64) << 32 | (flips[1] + 1)
    )
    flipped = np.full(len(pairs.ids), _NEVER, np.int64)
    np.minimum.at(flipped, request[drawn], position[drawn])
    return flipped


def _row_counts(pairs: Pairing, flips: tuple[np.ndarray, np.ndarray]) -> RowCounts:
    drawn = np.full(len(pairs.ids), _NEVER, np.int64)
    np.minimum.at(drawn, *flips)
    after, rows = 0, pairs.rows
    for run, only in ((pairs.recorded, rows.only_recorded), (pairs.replayed, rows.only_replayed)):
        request, position = _places(run.rows, only)
        after += int(np.count_nonzero(position > drawn[request]))
    missing = len(rows.only_recorded) + len(rows.only_replayed)
    return RowCounts(len(rows.recorded), rows.cached, rows.superseded, missing, after, rows.beyond)


def _describe(pairs: Pairing, rows: DivergentRows, at: int) -> Divergence:
    recorded, replayed, columns = pairs.recorded.trace, pairs.replayed.trace, pairs.columns
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
    step, request = int(recorded.row_step[row]), pairs.ids[rows.request[at]]
    position = int(rows.position[at])
    return Divergence(step, request, position, layer, name, rank, int(here[lane]), int(there[lane]))


def _kernels(pairs: Pairing, rows: DivergentRows, at: int) -> tuple[str, str] | None:
    """The kernels behind one divergent row's first op in both runs, where they are not the same."""
    recorded, replayed, op = pairs.recorded.trace, pairs.replayed.trace, rows.op[at]
    here = recorded.kernels_of(int(recorded.row_step[rows.row[at]]))[pairs.columns.recorded[op]]
    there = replayed.kernels_of(int(replayed.row_step[rows.other[at]]))[pairs.columns.replayed[op]]
    return (here, there) if here != there else None

"""Which row of the replayed run stands beside which of the recorded one, and which stand alone."""

from dataclasses import dataclass

import numpy as np

from detrec.replayer.align import align, earlier_pairs
from detrec.replayer.columns import Columns, columns_of, recorded_columns
from detrec.replayer.run import Run, request_ids, run_of
from detrec.replayer.trace import Trace


@dataclass(frozen=True, slots=True)
class Pairing:
    """`partner[row]`: the replayed row beside a recorded one, int32 [recorded rows], -1 where none is.

    `lost`: is it missing that a recorded row has none? bool [recorded rows]. `extra`: the replayed rows that
    have none where one is due, int64, ascending. Rows of which a run had the KV from its prefix cache are not
    missing, nor are those that follow the end of a recording that was never closed.

    `masks`: which columns either run records at all, bool [ops, ranks], in the order of `columns`.
    """

    ids: tuple[str, ...]
    recorded: Run
    replayed: Run
    columns: Columns
    mask: np.ndarray
    partner: np.ndarray
    lost: np.ndarray
    extra: np.ndarray


def pairing(recorded: Trace, replayed: Trace) -> Pairing:
    """Pair the rows of two traces. TraceCorrupt for a trace that contradicts itself."""
    ids = request_ids(recorded, replayed)
    ours, theirs = run_of(recorded, ids), run_of(replayed, ids)
    rows = align(ours.rows, theirs.rows, prefix=recorded.status != "complete")
    partner = np.full(recorded.n_rows, -1, np.int32)
    # rows that were computed again first: the latest row of a place is the one that counts
    here, there = earlier_pairs(ours.rows, theirs.rows)
    partner[here] = there
    partner[rows.recorded] = rows.replayed
    lost = np.zeros(recorded.n_rows, bool)
    lost[rows.only_recorded] = True
    columns = columns_of(recorded, replayed)
    masks = [recorded_columns(run.trace, columns.ranks, run.sampled[:1]) for run in (ours, theirs)]
    mask = masks[0][columns.recorded] | masks[1][columns.replayed]
    return Pairing(ids, ours, theirs, columns, mask, partner, lost, rows.only_replayed)

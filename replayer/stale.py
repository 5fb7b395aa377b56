"""Whether a divergent row is an older one: what a buffer holds that nobody wrote to."""

import numpy as np

from detrec.kernels.share import summed
from detrec.recorder.reader import TraceReader
from detrec.replayer.comparison import Comparison
from detrec.replayer.findings import Stale
from detrec.replayer.witnesses import place_of

_ROWS = 1 << 14
"""How far back is looked."""


def stale_row(recorded: TraceReader, replayed: TraceReader, comparison: Comparison) -> Stale | None:
    """The latest row of an earlier step that has the replayed fingerprint of the first divergence, or None.

    ValueError where no cell differs.
    """
    place, first = place_of(recorded, replayed, comparison), comparison.first
    assert first is not None, "place_of has refused it"
    op, size = replayed.ops.index(place.name), replayed.fingerprint_chunk_rows
    stop = int(np.searchsorted(replayed.row_step, place.replayed_step))
    for end in range(stop, max(stop - _ROWS, 0), -size):
        start = max(end - size, 0)
        prints = _prints(replayed, start, end, first.rank)[:, op]
        at = np.flatnonzero(prints == np.uint64(first.replayed))
        if len(at):
            row = start + int(at[-1])
            request = replayed.requests[int(replayed.row_request[row])].id
            return Stale(int(replayed.row_step[row]), request, int(replayed.row_position[row]))
    return None


def _prints(trace: TraceReader, start: int, stop: int, rank: int | None) -> np.ndarray:
    """What was compared: one rank's fingerprints, or sums over ranks."""
    if rank is None:
        ranks = [trace.fingerprints(start, stop, each) for each in range(trace.ranks)]
        return summed(np.stack(ranks, axis=2))
    # the other run may have more ranks
    return trace.fingerprints(start, stop, rank if rank < trace.ranks else 0)

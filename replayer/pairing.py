"""Two runs beside each other: which row stands by which, which draw by which, and which columns are
compared.
"""

from dataclasses import dataclass

import numpy as np

from detrec.replayer.align import Alignment, align, earlier_pairs
from detrec.replayer.columns import Columns, columns_of, recorded_columns
from detrec.replayer.lanes import Lanes
from detrec.replayer.run import Run, request_ids, run_of
from detrec.replayer.trace import Trace


@dataclass(frozen=True, slots=True)
class Pairing:
    """`ids[n]` is the request that both runs number n. `rows` and `samples` align rows and draws.

    `earlier`: recorded and replayed rows that were computed again later, beside each other. `masks`: which
    columns either run records at all, bool [ops, lanes], in its own order.
    """

    ids: tuple[str, ...]
    recorded: Run
    replayed: Run
    columns: Columns
    masks: tuple[np.ndarray, np.ndarray]
    rows: Alignment
    samples: Alignment
    earlier: tuple[np.ndarray, np.ndarray]

    @property
    def mask(self) -> np.ndarray:
        """Which of the compared columns any run records, bool [ops, lanes]."""
        recorded, replayed = self.masks
        mask: np.ndarray = recorded[self.columns.recorded] | replayed[self.columns.replayed]
        return mask


def pairing(recorded: Trace, replayed: Trace) -> Pairing:
    """Pair two traces. TraceCorrupt for one that contradicts itself.

    Of a recording that was never closed, what the replay did after its last committed row is not missing.
    """
    prefix = recorded.status != "complete"
    ids = request_ids(recorded, replayed)
    ours, theirs = run_of(recorded, ids), run_of(replayed, ids)
    columns = columns_of(recorded, replayed)
    common = columns.recorded, columns.replayed
    masks = [_mask(*side) for side in zip((ours, theirs), columns.lanes, common, strict=True)]
    return Pairing(
        ids,
        ours,
        theirs,
        columns,
        (masks[0], masks[1]),
        align(ours.rows, theirs.rows, prefix=prefix),
        align(ours.samples, theirs.samples, prefix=prefix),
        earlier_pairs(ours.rows, theirs.rows),
    )


def _mask(run: Run, lanes: Lanes, common: np.ndarray) -> np.ndarray:
    """Which columns a run records at all, bool [its ops, lanes]; of ops that it alone has, by rank."""
    by_rank = recorded_columns(run.trace, run.sampled[:1])
    mask = np.zeros((len(by_rank), len(lanes)), bool)
    mask[:, : lanes.n_ranks] = by_rank
    mask[common] = lanes.recorded(by_rank[common])
    return mask

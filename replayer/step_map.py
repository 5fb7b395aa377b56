"""Where cells differ or are missing, by step: what a map of a whole run needs, gathered while it is compared.

A run of a million rows is read once; to draw it again and again nothing must be read.
"""

from collections.abc import Sequence

import numpy as np

MOST_BUCKETS = 1 << 15

DIFFERS, MISSING = 1, 2


class StepMap:
    """`flags`, uint8 [buckets, ops, lanes]: DIFFERS and MISSING of any cell of the bucket.

    Bucket i holds `per` recorded steps, those from i * per on: one each, unless a run has more than
    MOST_BUCKETS.
    """

    def __init__(self, row_step: np.ndarray, n_steps: int, ops: int, lanes: int) -> None:
        self.per = max(-(-n_steps // MOST_BUCKETS), 1)
        self.flags = np.zeros((-(-n_steps // self.per), ops, lanes), np.uint8)
        self._row_step = row_step

    def note(self, rows: np.ndarray, ops: np.ndarray, differ: np.ndarray, missing: np.ndarray) -> None:
        """Add what was found in recorded `rows`, ascending: bool [rows, ops, lanes] each."""
        if not len(rows):
            return
        bucket = self._row_step[rows] // self.per
        begin = np.flatnonzero(np.diff(bucket, prepend=-1))
        found = np.bitwise_or.reduceat(
            differ * np.uint8(DIFFERS) | missing * np.uint8(MISSING), begin, axis=0
        )
        at: Sequence[np.ndarray] = np.ix_(bucket[begin], ops)
        self.flags[at[0], at[1]] |= found

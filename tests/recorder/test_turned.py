"""A copy by tiles is the copy, in whatever order the source lies."""

import numpy as np
import pytest

from detrec.recorder.turned import copy_rows, rows_of
from tests.bits import assert_same_bits

SOURCE = np.random.default_rng(5).integers(1, 2**63, (3, 512), dtype=np.uint64)


# 128 rows are a whole tile, and no more than that is copied at once
@pytest.mark.parametrize("rows", [0, 1, 127, 128, 129, 300])
def test_rows_are_copied_from_any_order(rows: int) -> None:
    columns = SOURCE[:, :rows]
    for source in (columns.T, np.ascontiguousarray(columns.T), SOURCE[::-1, rows:0:-1].T):
        out = np.zeros((len(source) + 2, 5), np.uint64)
        copy_rows(source, out[1:-1, 1:4])
        assert_same_bits(out[1:-1, 1:4].copy(), source.copy())
        assert not out[[0, -1]].any()
        assert not out[:, [0, 4]].any()


def test_a_copy_lies_row_by_row_and_is_the_copys_alone() -> None:
    source = SOURCE.copy()
    copied = rows_of(source.T)
    source[:] = 0
    assert copied.flags.c_contiguous
    assert_same_bits(copied, np.ascontiguousarray(SOURCE.T))

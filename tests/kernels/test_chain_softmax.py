"""The fault kernel of log-softmax: the same meaning, other bits, and the same bits again."""

import numpy as np
import pytest

from detrec.kernels.cpu.chain_softmax import chain_log_softmax
from detrec.kernels.cpu.softmax import log_softmax
from tests.bits import assert_same_bits


def logits(rows: int, columns: int) -> np.ndarray:
    return (np.random.default_rng(8).standard_normal((rows, columns)) * 4).astype(np.float32)


def chained(x: np.ndarray) -> np.ndarray:
    return chain_log_softmax(x, np.full(x.shape, np.nan, np.float32))


@pytest.mark.parametrize("columns", [1, 63, 1000])
def test_means_the_logarithm_of_softmax(columns):
    x = logits(5, columns)
    wide = x.astype(np.float64)
    below = wide - wide.max(axis=1, keepdims=True)
    meant = below - np.log(np.exp(below).sum(axis=1, keepdims=True))
    assert np.abs(chained(x) - meant).max() < 4e-6


def test_its_order_of_additions_is_another():
    x = logits(8, 1000)
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(chained(x), log_softmax(x, np.empty_like(x)))


def test_a_row_does_not_see_its_batch():
    x = logits(8, 1000)
    assert_same_bits(chained(x), np.concatenate([chained(row[None]) for row in x]))


def test_no_rows_and_no_columns():
    assert chained(logits(0, 5)).shape == (0, 5)
    with pytest.raises(ValueError, match=r"expected one \[S, V > 0\]"):
        chained(np.empty((2, 0), np.float32))

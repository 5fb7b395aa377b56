import numpy as np
import pytest
from numba import njit

from detrec.kernels.cpu import softmax as module
from detrec.kernels.cpu.portable import exp32, log32
from detrec.kernels.cpu.softmax import log_softmax, softmax
from tests.bits import assert_same_bits
from tests.kernels.lanes import bfloat16, floats, lanes_for


@njit
def exp_all(x, out):
    for i in range(x.size):
        out[i] = exp32(x[i])


def logits(rows: int, columns: int) -> np.ndarray:
    return (np.random.default_rng(8).standard_normal((rows, columns)) * 4).astype(np.float32)


def logged(x: np.ndarray) -> np.ndarray:
    return log_softmax(x, np.full(x.shape, np.nan, np.float32))


def pair_sum(values: np.ndarray, most: int) -> np.float32:
    """The sum of float32 values by at most `most` lanes, then by neighbouring pairs."""
    lanes = np.zeros(lanes_for(values.size, most), np.float32)
    for start in range(0, values.size, lanes.size):
        part = values[start : start + lanes.size]
        lanes[: part.size] += part
    while lanes.size > 1:
        lanes = lanes[::2] + lanes[1::2]
    return lanes[0]


def promised(x: np.ndarray, most: int = 8192) -> np.ndarray:
    """The kernel's own order, by at most `most` lanes."""
    out = np.empty_like(x)
    for row, y in zip(x, out, strict=True):
        below, e = row - row.max(), np.empty_like(row)
        exp_all(below, e)
        y[:] = below - np.float32(log32(pair_sum(e, most)))
    return out


# 63: ragged. 8192: exactly one pass of the lanes. 17000: two passes and a ragged one.
@pytest.mark.parametrize("columns", [1, 63, 8192, 17000])
def test_means_the_logarithm_of_softmax(columns):
    x = logits(5, columns)
    wide = x.astype(np.float64)
    below = wide - wide.max(axis=1, keepdims=True)
    meant = below - np.log(np.exp(below).sum(axis=1, keepdims=True))
    assert np.abs(logged(x) - meant).max() < 4e-6
    probabilities = softmax(x, np.full_like(x, np.nan))
    assert (np.abs(probabilities - np.exp(meant)) <= 4e-6 * np.exp(meant)).all()
    assert np.abs(probabilities.astype(np.float64).sum(axis=1) - 1).max() < 1e-6


@pytest.mark.parametrize("columns", [63, 8192, 17000])
def test_adds_in_the_promised_order(columns):
    x = logits(5, columns)
    assert_same_bits(logged(x), promised(x))


def test_these_rows_tell_one_order_from_another():
    """Negative control: if this fails, the test above and those of batches can pass on any order."""
    x = logits(16, 17000)
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(logged(x), promised(x, most=256))


@pytest.mark.parametrize("kernel", [softmax, log_softmax])
def test_row_does_not_see_its_batch(kernel):
    x = logits(32, 3000)
    alone = np.concatenate([kernel(x[i : i + 1], np.empty((1, 3000), np.float32)) for i in range(32)])
    assert_same_bits(kernel(x, np.empty_like(x)), alone)


def test_threads_do_not_move_a_bit(monkeypatch):
    x = logits(8, 3000)
    serial = logged(x)
    monkeypatch.setattr(module, "PARALLEL_ELEMENTS", 0)
    assert_same_bits(logged(x), serial)


def test_may_write_in_place():
    x = logits(3, 3000)
    expected = logged(x)
    assert_same_bits(log_softmax(x, x), expected)


def test_bfloat16_is_computed_in_float32():
    x = bfloat16(logits(3, 3000))
    assert_same_bits(logged(x), logged(floats(x)))


def test_a_banned_token_stays_banned_and_moves_nothing_else():
    x = logits(1, 4)
    x[0, 2] = -np.inf
    y = logged(x)
    assert y[0, 2] == -np.inf
    assert abs(np.exp(y.astype(np.float64)).sum() - 1) < 1e-6


def test_nan_is_not_hidden():
    x = logits(1, 3000)
    x[0, 1234] = np.nan
    assert np.isnan(logged(x)).all()


def test_no_rows():
    assert logged(np.empty((0, 9), np.float32)).shape == (0, 9)


def test_rejects_out_of_another_shape():
    with pytest.raises(ValueError, match="log_softmax: x has shape"):
        log_softmax(logits(2, 9), np.empty((2, 8), np.float32))


def test_rejects_rows_of_nothing():
    with pytest.raises(ValueError, match="softmax: x has shape"):
        softmax(np.empty((2, 0), np.float32), np.empty((2, 0), np.float32))

import numpy as np
import pytest

from detrec.kernels.cpu.mean import mean
from tests.bits import assert_same_bits
from tests.kernels.lanes import bfloat16, floats, lane_sum, rough


def promised(x: np.ndarray, most: int = 1024) -> np.ndarray:
    return np.array([lane_sum(row, most) / np.float32(row.size) for row in x], np.float32)


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (2, 0), (0, 1, 2)])
def test_means_the_mean(axis):
    x = np.random.default_rng(9).standard_normal((6, 7, 50)).astype(np.float32)
    meant = x.astype(np.float64).mean(axis=axis)
    got = mean(x, axis)
    assert got.dtype == np.float32
    assert got.shape == meant.shape
    assert np.abs(got - meant).max() < 3e-7


# 63: ragged. 1024: exactly one pass of the lanes. 2500: two passes and a ragged one.
@pytest.mark.parametrize("columns", [1, 63, 1024, 2500])
def test_adds_in_the_promised_order(columns):
    x = rough(5, columns)
    assert_same_bits(mean(x, 1), promised(x))


def test_rough_rows_tell_one_order_from_another():
    """Negative control: if this fails, the test above can pass on any order."""
    x = rough(32, 2500)
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(mean(x, 1), promised(x, most=256))


def test_row_does_not_see_its_batch():
    x = rough(64, 577)
    assert_same_bits(mean(x, 1), np.concatenate([mean(x[i : i + 1], 1) for i in range(64)]))


def test_strides_and_the_order_of_axes_do_not_matter():
    x = rough(6, 350).reshape(6, 7, 50)
    assert_same_bits(mean(x, (2, 0)), mean(x, (0, 2)))
    assert_same_bits(mean(x.transpose(2, 1, 0).copy().transpose(2, 1, 0), (0, 2)), mean(x, (0, 2)))
    assert_same_bits(mean(x, None).reshape(1), mean(x.reshape(1, -1), 1))


def test_bfloat16_is_added_in_float32():
    x = bfloat16(rough(6, 350))
    assert_same_bits(mean(x, 1), mean(floats(x), 1))


def test_no_rows():
    assert mean(np.empty((0, 9), np.float32), 1).shape == (0,)


def test_rejects_a_mean_of_nothing():
    with pytest.raises(ValueError, match="holds no elements"):
        mean(np.empty((3, 0), np.float32), 1)


@pytest.mark.parametrize("axis", [2, -3, (0, 0)])
def test_rejects_axis_that_is_not_there(axis):
    with pytest.raises(ValueError, match="of an array of 2 dimensions"):
        mean(rough(2, 3), axis)

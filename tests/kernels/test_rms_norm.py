import numpy as np
import pytest
from numba import njit

from detrec.kernels.cpu.portable import fma
from detrec.kernels.cpu.rms_norm import rms_norm
from tests.bits import assert_same_bits
from tests.kernels.lanes import bfloat16, floats, lanes_for, rough, tree

EPS = 1e-5


@njit
def add_squares(x, lanes):
    for i in range(x.size):
        lanes[i] = fma(x[i], x[i], lanes[i])


def promised(x: np.ndarray, weight: np.ndarray, most: int = 1024) -> np.ndarray:
    """The kernel's own order, by at most `most` lanes."""
    out = np.empty_like(x)
    for row, y in zip(x, out, strict=True):
        lanes = np.zeros(lanes_for(row.size, most), np.float32)
        for start in range(0, row.size, lanes.size):
            add_squares(row[start : start + lanes.size], lanes)
        rstd = np.float32(1) / np.sqrt(tree(lanes) / np.float32(row.size) + np.float32(EPS))
        y[:] = row * rstd * weight
    return out


def normed(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    out = np.full_like(x, np.nan) if x.dtype == np.float32 else np.zeros_like(x)
    return rms_norm(x, weight, EPS, out)


def weights(columns: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(columns).astype(np.float32)


# 63: ragged. 576: SmolLM2. 1024: exactly one pass of the lanes. 2500: two passes and a ragged one.
@pytest.mark.parametrize("columns", [1, 63, 576, 1024, 2500])
def test_means_the_root_mean_square(columns):
    x, w = rough(5, columns), weights(columns)
    wide = x.astype(np.float64)
    meant = wide / np.sqrt((wide**2).mean(axis=1, keepdims=True) + EPS) * w
    assert (np.abs(normed(x, w) - meant) <= 5e-7 * np.abs(meant)).all()


@pytest.mark.parametrize("columns", [63, 576, 1024, 2500])
def test_adds_in_the_promised_order(columns):
    x, w = rough(5, columns), weights(columns)
    assert_same_bits(normed(x, w), promised(x, w))


def test_squares_are_fused():
    # all of a row's weight is in lane 0, so that nothing hides how its second square was added
    x, w = np.zeros((64, 2048), np.float32), weights(2048)
    x[:, [0, 1024]] = rough(64, 2) * np.float32(1e4)
    assert_same_bits(normed(x, w), promised(x, w))
    total = x[:, 0] * x[:, 0] + x[:, 1024] * x[:, 1024]
    rstd = np.float32(1) / np.sqrt(total / np.float32(2048) + np.float32(EPS))
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(normed(x, w), x * rstd[:, None] * w)


def test_rough_rows_tell_one_order_from_another():
    """Negative control: if this fails, the test above and those of batches can pass on any order."""
    x, w = rough(64, 2500), weights(2500)
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(normed(x, w), promised(x, w, most=256))


def test_row_does_not_see_its_batch():
    x, w = rough(64, 576), weights(576)
    alone = np.concatenate([normed(x[i : i + 1], w) for i in range(64)])
    assert_same_bits(normed(x, w), alone)


def test_groups_are_normalised_one_by_one():
    x, w = rough(7, 9 * 64), weights(64)
    assert_same_bits(normed(x, w), normed(x.reshape(-1, 64), w).reshape(7, -1))


def test_rows_may_be_a_slice_of_wider_ones():
    x, w = rough(7, 960), weights(64)
    assert_same_bits(normed(x[:, 576:768], w), normed(x[:, 576:768].copy(), w))


def test_may_write_in_place():
    x, w = rough(7, 576), weights(576)
    expected = normed(x, w)
    assert_same_bits(rms_norm(x, w, EPS, x), expected)


def test_bfloat16_is_computed_in_float32_and_rounded_once():
    x, w = bfloat16(rough(7, 576)), bfloat16(weights(576))
    assert_same_bits(normed(x, w), bfloat16(normed(floats(x), floats(w))))


def test_no_rows():
    assert normed(np.empty((0, 64), np.float32), weights(64)).shape == (0, 64)


def test_rejects_weight_that_does_not_divide_the_columns():
    with pytest.raises(ValueError, match=r"weight has shape \[63\]"):
        normed(rough(2, 64), weights(63))


def test_rejects_out_of_another_shape():
    with pytest.raises(ValueError, match="out has shape"):
        rms_norm(rough(2, 64), weights(64), EPS, np.empty((2, 32), np.float32))


def test_rejects_columns_that_are_not_contiguous():
    with pytest.raises(ValueError, match="not contiguous"):
        normed(rough(4, 128)[:, ::2], weights(64))

import numpy as np
import pytest

from detrec.kernels.cpu.add import add
from tests.bits import assert_same_bits
from tests.kernels.lanes import bfloat16, floats, rough


def test_is_the_ieee_sum():
    x, y = rough(5, 577, 1), rough(5, 577, 2)
    assert_same_bits(add(x, y, np.full_like(x, np.nan)), x + y)


def test_row_does_not_see_its_batch():
    x, y = rough(64, 100, 1), rough(64, 100, 2)
    alone = [add(x[i : i + 1], y[i : i + 1], np.empty((1, 100), np.float32)) for i in range(64)]
    assert_same_bits(add(x, y, np.empty_like(x)), np.concatenate(alone))


def test_rough_rows_show_a_rounding_to_bfloat16():
    """Negative control: a sum of less precision has other bits."""
    x, y = rough(5, 100, 1), rough(5, 100, 2)
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(add(x, y, np.empty_like(x)), floats(bfloat16(x + y)))


def test_may_write_into_either_input():
    x, y = rough(5, 100, 1), rough(5, 100, 2)
    expected = x + y
    assert_same_bits(add(x.copy(), y, y.copy()), expected)
    assert_same_bits(add(x, y, x), expected)


def test_bfloat16_is_added_in_float32_and_rounded_once():
    x, y = bfloat16(rough(5, 100, 1)), bfloat16(rough(5, 100, 2))
    assert_same_bits(add(x, y, np.zeros_like(x)), bfloat16(floats(x) + floats(y)))


def test_no_rows():
    none = np.empty((0, 4), np.float32)
    assert add(none, none, none).shape == (0, 4)


def test_rejects_two_shapes():
    with pytest.raises(ValueError, match=r"shapes \[2, 4\], \[2, 5\]"):
        add(rough(2, 4), rough(2, 5), rough(2, 4))

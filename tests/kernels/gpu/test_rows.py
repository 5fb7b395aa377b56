"""Rows by their number on the GPU: copied to the bit, padding left zero, edges."""

import numpy as np
import pytest

from detrec.kernels.gpu.rows import gather_rows
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host


def rand(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("dtype", FLOATS)
# 63: one ragged tile. 1024: exactly one tile. 2500: two full tiles and a ragged one.
@pytest.mark.parametrize("cols", [1, 63, 1024, 2500])
def test_gives_the_rows_asked_for(cols, dtype):
    index = np.array([4, 0, 0, 2], np.int64)
    x = floats(rand(5, cols), dtype)
    out = gather_rows(x, device(index), fresh((4, cols), dtype))
    assert_same_bits(host(out), host(x)[index])


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_row_that_is_not_there_is_zero(dtype):
    out = gather_rows(
        floats(rand(5, 63), dtype), device(np.array([-1, 5, 1 << 40], np.int64)), fresh((3, 63), dtype)
    )
    assert not host(out).any()


def test_bits_of_nan_are_kept():
    x = np.array([0x7F800001, 0xFFC12345, 0x80000000], np.uint32).view(np.float32)[None]
    out = gather_rows(device(x), device(np.zeros(1, np.int64)), fresh((1, 3), "float32"))
    assert_same_bits(host(out), x)


def test_rows_may_be_a_slice_of_wider_ones():
    wide = device(rand(4, 300))
    out = gather_rows(wide[:, 150:250], device(np.array([3, 1], np.int64)), fresh((2, 100), "float32"))
    assert_same_bits(host(out), host(wide)[[3, 1], 150:250])


def test_no_rows():
    out = gather_rows(device(rand(4, 5)), fresh((0,), "int64"), fresh((0, 5), "float32"))
    assert host(out).shape == (0, 5)


def test_rejects_out_of_another_dtype():
    with pytest.raises(ValueError, match=r"gather_rows: x is float32 \[4, 5\], out float16 \[2, 5\]"):
        gather_rows(device(rand(4, 5)), fresh((2,), "int64"), fresh((2, 5), "float16"))


def test_rejects_an_index_of_another_size():
    with pytest.raises(ValueError, match=r"gather_rows: index is int64 \[3\]"):
        gather_rows(device(rand(4, 5)), fresh((3,), "int64"), fresh((2, 5), "float32"))

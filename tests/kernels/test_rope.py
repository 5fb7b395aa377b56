import time
from decimal import Decimal

import numpy as np
import pytest
from numba import vectorize

from detrec.kernels.cpu.portable import fma
from detrec.kernels.cpu.rope import inv_freq, rope, rope_tables
from tests.bits import assert_same_bits
from tests.kernels.lanes import bfloat16, floats, rough

D = 64


@vectorize
def fma_all(a, b, c):
    return fma(a, b, c)


COS, SIN = rope_tables(inv_freq(1e5, D), 512)


def turned(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    out = np.full_like(x, np.nan) if x.dtype == np.float32 else np.zeros_like(x)
    return rope(x, positions, COS, SIN, out)


def places(rows: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 512, rows)


def test_rotates_each_half_pair():
    x, positions = rough(9, 3 * D), places(9)
    angle = positions[:, None, None] * inv_freq(1e5, D)
    first, second = np.split(x.astype(np.float64).reshape(9, 3, D), 2, axis=2)
    cos, sin = np.cos(angle), np.sin(angle)
    meant = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=2).reshape(9, -1)
    size = np.hypot(first, second)
    bound = 4e-7 * np.concatenate([size, size], axis=2).reshape(9, -1)
    assert (np.abs(turned(x, positions) - meant) <= bound).all()


def test_row_does_not_see_its_batch():
    x, positions = rough(64, 3 * D), places(64)
    alone = np.concatenate([turned(x[i : i + 1], positions[i : i + 1]) for i in range(64)])
    assert_same_bits(turned(x, positions), alone)


def test_products_are_fused_as_promised():
    x, positions = rough(64, D), places(64)
    first, second = x[:, : D // 2].copy(), x[:, D // 2 :].copy()
    c, s = COS[positions], SIN[positions]
    fused = np.concatenate([fma_all(-second, s, first * c), fma_all(second, c, first * s)], axis=1)
    assert_same_bits(turned(x, positions), fused)
    # negative control: without fma the bits are others, so that this data would show a change
    separate = np.concatenate([first * c - second * s, second * c + first * s], axis=1)
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(turned(x, positions), separate)


def test_rows_may_be_a_slice_of_wider_ones_and_written_in_place():
    wide, positions = rough(8, 5 * D), places(8)
    expected = turned(wide[:, D : 3 * D].copy(), positions)
    assert_same_bits(rope(wide[:, D : 3 * D], positions, COS, SIN, wide[:, D : 3 * D]), expected)


def test_bfloat16_is_computed_in_float32_and_rounded_once():
    x, positions = bfloat16(rough(8, D)), places(8)
    assert_same_bits(turned(x, positions), bfloat16(turned(floats(x), positions)))


def test_inv_freq_is_the_nearest_float64():
    exact = [float(Decimal(10000) ** (Decimal(-2 * i) / 128)) for i in range(64)]
    assert inv_freq(10000.0, 128).tolist() == exact


def test_tables_are_sines_rounded_to_float32():
    frequencies = inv_freq(10000.0, 64)
    # of this thread, whatever else the machine does
    began = time.thread_time()
    cos, sin = rope_tables(frequencies, 8192)
    assert time.thread_time() - began < 1.0
    angle = np.arange(8192)[:, None] * frequencies
    for table, meant in ((cos, np.cos(angle)), (sin, np.sin(angle))):
        # the other last bit of two correct float64 sines moves a float32 rounding about once in 10^8
        assert (table != meant.astype(np.float32)).sum() <= 1


def test_tables_stay_right_at_long_positions():
    cos, sin = rope_tables(np.array([1.0, 0.5]), 131072)
    angle = np.arange(131072)[:, None] * np.array([1.0, 0.5])
    assert np.abs(cos - np.cos(angle)).max() < 6.1e-8
    assert np.abs(sin - np.sin(angle)).max() < 6.1e-8


def test_no_rows():
    assert turned(np.empty((0, D), np.float32), np.empty(0, np.int64)).shape == (0, D)


@pytest.mark.parametrize("position", [-1, 512])
def test_rejects_position_outside_the_tables(position):
    with pytest.raises(ValueError, match=f"row 1 is at position {position}"):
        turned(rough(2, D), np.array([0, position]))


def test_rejects_columns_that_are_no_whole_heads():
    with pytest.raises(ValueError, match="D dividing 96"):
        turned(rough(2, 96), places(2))


def test_rejects_positions_of_another_length():
    with pytest.raises(ValueError, match=r"expected int64 \[2\]"):
        turned(rough(2, D), places(3))


def test_rejects_an_odd_head():
    with pytest.raises(ValueError, match="head_dim is 7"):
        inv_freq(1e4, 7)


def test_rejects_angles_beyond_the_reduction():
    with pytest.raises(ValueError, match="radians"):
        rope_tables(np.array([1e6]), 100)

"""bfloat16 bits and float32."""

import numpy as np
import pytest

from detrec.engines.builtin.bfloat16 import narrowed, stored, widened
from tests.bits import assert_same_bits


def test_every_bfloat16_survives_the_way_to_float32_and_back():
    bits = np.arange(1 << 16, dtype=np.uint16)
    # a signalling NaN comes back quiet
    nan = np.isnan(widened(bits))
    assert_same_bits(narrowed(widened(bits)), np.where(nan, bits | 0x40, bits).astype(np.uint16))


def test_rounds_to_nearest_even():
    # 1 + 2^-8 lies between 1 (even) and 1 + 2^-7; 1 + 3*2^-8 between 1 + 2^-7 (odd) and 1 + 2^-6
    values = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, 3.4e38, -np.inf], np.float32)
    assert_same_bits(narrowed(values), np.array([0x3F80, 0x3F82, 0x3F81, 0x7F80, 0xFF80], np.uint16))


def test_every_value_goes_to_its_nearest_neighbour():
    # more than one pass of 2^16, and a ragged one; exponents that do not overflow
    bits = np.random.default_rng(7).integers(0, 0x7F000000, (3, 40_001), np.uint32)
    bits[0, ::5] = bits[0, ::5] & 0xFFFF0000 | 0x8000
    below = (bits >> 16).astype(np.uint16)
    value, low, high = (
        x.astype(np.float64) for x in (bits.view(np.float32), widened(below), widened(below + 1))
    )
    up = (value - low > high - value) | ((value - low == high - value) & (below % 2 == 1))
    assert_same_bits(narrowed(bits.view(np.float32)), np.where(up, below + 1, below).astype(np.uint16))


def test_stored_gives_what_was_asked_for():
    ones = np.ones((2, 3), np.float32)
    assert_same_bits(stored(ones, "float32"), ones)
    assert_same_bits(stored(ones, "bfloat16"), np.full((2, 3), 0x3F80, np.uint16))
    assert_same_bits(stored(np.full((2, 3), 0x3F80, np.uint16), "float32"), ones)
    with pytest.raises(ValueError, match="expected float32 or bfloat16, got 'float16'"):
        stored(ones, "float16")

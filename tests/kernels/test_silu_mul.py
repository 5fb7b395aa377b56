import numpy as np
import pytest

from detrec.kernels.cpu.silu_mul import silu_mul
from tests.bits import assert_same_bits
from tests.kernels.lanes import bfloat16, floats


def inputs(rows: int, width: int) -> np.ndarray:
    return (np.random.default_rng(6).standard_normal((rows, 2 * width)) * 4).astype(np.float32)


def gated(x: np.ndarray) -> np.ndarray:
    return silu_mul(x, np.zeros((x.shape[0], x.shape[1] // 2), x.dtype))


@pytest.mark.parametrize("width", [1, 63, 1536])
def test_means_silu_times_up(width):
    x = inputs(5, width)
    gate, up = np.split(x.astype(np.float64), 2, axis=1)
    meant = gate / (1 + np.exp(-gate)) * up
    assert (np.abs(gated(x) - meant) <= 5e-7 * np.abs(meant)).all()


def test_row_does_not_see_its_batch():
    x = inputs(64, 100)
    assert_same_bits(gated(x), np.concatenate([gated(x[i : i + 1]) for i in range(64)]))


def test_a_vector_tail_has_the_bits_of_a_full_vector():
    x = inputs(1, 64)
    gate, up = x[:, :64], x[:, 64:]
    for width in (1, 5, 15, 31):
        short = gated(np.concatenate([gate[:, :width], up[:, :width]], axis=1))
        assert_same_bits(short, gated(x)[:, :width])


def test_another_formula_has_other_bits():
    """Negative control: x * (1 / (1 + e^-x)) is not x / (1 + e^-x), and this data shows it."""
    x = inputs(8, 500)
    ones = np.concatenate([x[:, :500], np.ones((8, 500), np.float32)], axis=1)
    gate = x[:, :500].astype(np.float32)
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(gated(ones), gate * (np.float32(1) / (np.float32(1) + np.exp(-gate))))


def test_bfloat16_is_computed_in_float32_and_rounded_once():
    x = bfloat16(inputs(7, 100))
    assert_same_bits(gated(x), bfloat16(gated(floats(x))))


def test_far_from_zero():
    x = np.array([[-200.0, 200.0, 1.0, 1.0]], np.float32)
    assert_same_bits(gated(x), np.array([[-0.0, 200.0]], np.float32))


def test_no_rows():
    assert gated(np.empty((0, 8), np.float32)).shape == (0, 4)


def test_rejects_out_of_another_width():
    with pytest.raises(ValueError, match=r"expected \[R, 2F\], \[R, F\]"):
        silu_mul(inputs(2, 8), np.empty((2, 16), np.float32))

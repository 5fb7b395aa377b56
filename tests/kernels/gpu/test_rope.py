"""Rotary embedding on the GPU: meaning, the CPU kernel's bits, edges."""

import numpy as np
import pytest

from detrec.kernels.cpu.rope import inv_freq, rope_tables
from detrec.kernels.cpu.rope import rope as cpu_rope
from detrec.kernels.gpu.rope import rope
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host, values

ULP = {"float32": 1e-6, "bfloat16": 2**-7, "float16": 2**-10}


def rand(rows: int, cols: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((rows, cols), dtype=np.float32)


def tables(size: int, known: int = 100) -> tuple[np.ndarray, np.ndarray]:
    return rope_tables(inv_freq(1e6, size), known)


def positions_of(rows: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 100, rows)


def rotated(x, positions, size, dtype="float32"):
    """x, a device array [R, heads*size], by the kernel."""
    cos, sin = tables(size)
    return rope(x, device(positions), device(cos), device(sin), fresh(x.shape, dtype))


# 6: half of a head is no power of two. 33 heads of 64: one program's heads and a ragged one.
@pytest.mark.parametrize(("heads", "size"), [(1, 2), (3, 6), (33, 64), (4, 128)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_means_the_cpu_kernel(dtype, heads, size):
    x, positions = floats(rand(3, heads * size), dtype), positions_of(3)
    expected = cpu_rope(values(x), positions, *tables(size), np.empty(x.shape, np.float32))
    np.testing.assert_allclose(
        values(rotated(x, positions, size, dtype)), expected, rtol=0, atol=8 * ULP[dtype]
    )


@pytest.mark.gpu
@pytest.mark.parametrize(("heads", "size"), [(1, 2), (3, 6), (33, 64), (28, 128)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_has_the_bits_of_the_cpu_kernel(dtype, heads, size):
    x, positions = floats(rand(65, heads * size), dtype), positions_of(65)
    expected = cpu_rope(values(x), positions, *tables(size), np.empty(x.shape, np.float32))
    assert_same_bits(host(rotated(x, positions, size, dtype)), host(floats(expected, dtype)))


def test_row_does_not_see_its_batch():
    x, positions = device(rand(5, 192)), positions_of(5)
    alone = [host(rotated(x[i : i + 1], positions[i : i + 1], 64)) for i in range(5)]
    assert_same_bits(host(rotated(x, positions, 64)), np.concatenate(alone))


def test_rows_may_be_slices_of_wider_ones_and_may_be_rotated_in_place():
    x, positions = rand(4, 300), positions_of(4)
    cos, sin = (device(table) for table in tables(64))
    wide = device(x)
    part = wide[:, 50:178]
    rope(part, device(positions), cos, sin, part)
    expected = x.copy()
    expected[:, 50:178] = host(rotated(device(x[:, 50:178]), positions, 64))
    assert_same_bits(host(wide), expected)


def test_a_position_that_the_tables_lack_gives_zeros():
    out = rotated(device(rand(3, 128)), np.array([-1, 100, 1 << 40]), 64)
    assert not host(out).any()


def test_no_rows():
    assert values(rotated(fresh((0, 128), "float32"), np.zeros(0, np.int64), 64)).shape == (0, 128)


def test_rejects_tables_that_do_not_divide_the_columns():
    with pytest.raises(ValueError, match="rope: tables are float32"):
        rotated(device(rand(3, 130)), positions_of(3), 64)


def test_rejects_positions_of_another_size():
    with pytest.raises(ValueError, match=r"rope: positions is int64 \[2\]"):
        rotated(device(rand(3, 128)), positions_of(2), 64)

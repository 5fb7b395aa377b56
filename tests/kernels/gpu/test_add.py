"""Elementwise sum on the GPU: meaning, the CPU kernel's bits in float32, edges."""

import numpy as np
import pytest

from detrec.kernels.cpu.add import add as cpu_add
from detrec.kernels.gpu.add import add
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host, values


def rand(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("dtype", FLOATS)
# 63: one ragged tile. 1024: exactly one tile. 2500: two full tiles and a ragged one.
@pytest.mark.parametrize("cols", [1, 63, 1024, 2500])
def test_matches_the_cpu_kernel(cols, dtype):
    x, y = floats(rand(3, cols), dtype), floats(rand(3, cols)[::-1], dtype)
    out = add(x, y, fresh((3, cols), dtype))
    if dtype == "float16":
        assert_same_bits(host(out), host(x) + host(y))
    else:
        assert_same_bits(host(out), cpu_add(host(x), host(y), np.empty_like(host(x))))


def test_rows_may_be_a_slice_of_wider_ones():
    wide = device(rand(4, 300))
    x, y = wide[:, :100], wide[:, 150:250]
    out = add(x, y, fresh((4, 100), "float32"))
    whole = host(wide)
    assert_same_bits(host(out), whole[:, :100] + whole[:, 150:250])


def test_no_rows():
    x = fresh((0, 5), "float32")
    assert values(add(x, x, fresh((0, 5), "float32"))).shape == (0, 5)


def test_rejects_shapes_that_differ():
    with pytest.raises(ValueError, match=r"add: shapes \[2, 3\], \[2, 4\]"):
        add(fresh((2, 3), "float32"), fresh((2, 4), "float32"), fresh((2, 3), "float32"))

"""SwiGLU's gate on the GPU: meaning, the CPU kernel's bits, edges."""

import numpy as np
import pytest

from detrec.kernels.cpu.silu_mul import silu_mul as cpu_silu_mul
from detrec.kernels.gpu.silu_mul import silu_mul
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host, values

ULP = {"float32": 1e-6, "bfloat16": 2**-7, "float16": 2**-10}


def rand(rows: int, cols: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((rows, cols), dtype=np.float32) * 6


def on_cpu(x: np.ndarray) -> np.ndarray:
    return cpu_silu_mul(x, np.empty((len(x), x.shape[1] // 2), np.float32))


@pytest.mark.parametrize("dtype", FLOATS)
# 63: one ragged tile. 1024: exactly one tile. 2500: two full tiles and a ragged one.
@pytest.mark.parametrize("cols", [1, 63, 1024, 2500])
def test_means_the_cpu_kernel(cols, dtype):
    x = floats(rand(3, 2 * cols), dtype)
    out = silu_mul(x, fresh((3, cols), dtype))
    np.testing.assert_allclose(values(out), on_cpu(values(x)), rtol=4 * ULP[dtype], atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("cols", [1, 63, 1024, 18944])
def test_has_the_bits_of_the_cpu_kernel(cols, dtype):
    x = floats(rand(65, 2 * cols), dtype)
    out = silu_mul(x, fresh((65, cols), dtype))
    assert_same_bits(host(out), host(floats(on_cpu(values(x)), dtype)))


def test_row_does_not_see_its_batch():
    x = device(rand(5, 126))
    whole = host(silu_mul(x, fresh((5, 63), "float32")))
    alone = [host(silu_mul(x[i : i + 1], fresh((1, 63), "float32"))) for i in range(5)]
    assert_same_bits(whole, np.concatenate(alone))


def test_rows_may_be_a_slice_of_wider_ones():
    x = rand(4, 300)
    out = silu_mul(device(x)[:, 50:250], fresh((4, 100), "float32"))
    expected = silu_mul(device(x[:, 50:250]), fresh((4, 100), "float32"))
    assert_same_bits(host(out), host(expected))


def test_far_gates_are_zero_or_pass():
    x = np.array([[-1e30, 1e30, 3.0, 2.0]], np.float32)
    assert_same_bits(
        host(silu_mul(device(x), fresh((1, 2), "float32"))), np.array([[-0.0, 2e30]], np.float32)
    )


def test_no_rows():
    assert values(silu_mul(fresh((0, 10), "float32"), fresh((0, 5), "float32"))).shape == (0, 5)


def test_rejects_widths_that_do_not_fit():
    with pytest.raises(ValueError, match=r"silu_mul: x is float32 \[2, 10\], out float32 \[2, 6\]"):
        silu_mul(fresh((2, 10), "float32"), fresh((2, 6), "float32"))

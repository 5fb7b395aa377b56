"""RMS norm on the GPU: meaning, the CPU kernel's bits, invariance and its control, edges."""

import numpy as np
import pytest

from detrec.kernels.cpu.rms_norm import rms_norm as cpu_rms_norm
from detrec.kernels.gpu import rms_norm as module
from detrec.kernels.gpu.add import add
from detrec.kernels.gpu.rms_norm import rms_norm, rms_norm_residual
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host, values
from tests.kernels.lanes import rough

EPS = 1e-5
ULP = {"float32": 1e-6, "bfloat16": 2**-7, "float16": 2**-10}


def weights(cols: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(cols).astype(np.float32)


def normed(x, cols, dtype="float32"):
    """x, a device array, by groups of `cols`."""
    return rms_norm(x, device(weights(cols)), EPS, fresh(x.shape, dtype))


def on_cpu(x: np.ndarray, cols: int) -> np.ndarray:
    return cpu_rms_norm(x, weights(cols), EPS, np.empty_like(x))


# 63: ragged. 128: heads. 1024: exactly one pass of the lanes. 2500: two passes and a ragged one.
@pytest.mark.parametrize("cols", [1, 63, 128, 1024, 2500])
@pytest.mark.parametrize("dtype", FLOATS)
def test_means_the_cpu_kernel(dtype, cols):
    x = floats(rough(3, cols), dtype)
    np.testing.assert_allclose(
        values(normed(x, cols, dtype)), on_cpu(values(x), cols), rtol=4 * ULP[dtype], atol=1e-6
    )


@pytest.mark.gpu
@pytest.mark.parametrize("cols", [1, 63, 128, 576, 1024, 2500, 3584, 5120, 8192, 20000])
@pytest.mark.parametrize("dtype", FLOATS)
def test_has_the_bits_of_the_cpu_kernel(dtype, cols):
    x = floats(rough(65, cols), dtype)
    assert_same_bits(host(normed(x, cols, dtype)), host(floats(on_cpu(values(x), cols), dtype)))


@pytest.mark.parametrize("cols", [64, 2500])
def test_row_does_not_see_its_batch(cols):
    x = device(rough(8, cols))
    alone = [host(normed(x[i : i + 1], cols)) for i in range(8)]
    assert_same_bits(host(normed(x, cols)), np.concatenate(alone))


def test_rough_rows_tell_one_order_from_another(monkeypatch):
    """Negative control: if this fails, the tests above can pass on a kernel of another order."""
    x = device(rough(32, 2500))
    before = host(normed(x, 2500))
    monkeypatch.setattr(module, "lanes_of", lambda columns: 256)
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(host(normed(x, 2500)), before)


def test_groups_are_normalised_one_by_one():
    x = rough(7, 9 * 64)
    groups = host(normed(device(x.reshape(-1, 64)), 64))
    assert_same_bits(host(normed(device(x), 64)), groups.reshape(7, -1))


def test_rows_may_be_slices_of_wider_ones_and_may_be_written_in_place():
    x = rough(7, 960)
    wide = device(x)
    rms_norm(wide[:, 576:768], device(weights(64)), EPS, wide[:, 576:768])
    expected = x.copy()
    expected[:, 576:768] = host(normed(device(x[:, 576:768]), 64))
    assert_same_bits(host(wide), expected)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("cols", [128, 2500])
def test_a_residual_is_added_and_rounded_first(cols, dtype):
    x, residual = floats(rough(3, cols), dtype), floats(rough(3, cols, seed=9), dtype)
    weight = device(weights(cols))
    total = add(x, residual, fresh((3, cols), dtype))
    expected = host(rms_norm(total, weight, EPS, fresh((3, cols), dtype)))
    # in place, as a residual stream is
    out = rms_norm_residual(x, residual, weight, EPS, fresh((3, cols), dtype), residual)
    assert_same_bits(host(residual), host(total))
    assert_same_bits(host(out), expected)


def test_no_rows():
    assert values(normed(fresh((0, 64), "float32"), 64)).shape == (0, 64)


def test_rejects_weight_that_does_not_divide_the_columns():
    with pytest.raises(ValueError, match=r"weight has shape \[63\]"):
        normed(device(rough(2, 64)), 63)


def test_rejects_out_of_another_shape():
    with pytest.raises(ValueError, match=r"rms_norm: out is float32 \[2, 32\]"):
        rms_norm(device(rough(2, 64)), device(weights(64)), EPS, fresh((2, 32), "float32"))


def test_rejects_a_residual_of_another_dtype():
    x, out = device(rough(2, 64)), fresh((2, 64), "float32")
    with pytest.raises(ValueError, match=r"rms_norm_residual: residual is float16 \[2, 64\]"):
        rms_norm_residual(x, fresh((2, 64), "float16"), device(weights(64)), EPS, out, out)

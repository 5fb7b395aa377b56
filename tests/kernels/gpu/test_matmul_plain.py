"""The matmul that takes every shape, stride and alignment."""

import numpy as np
import pytest

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.matmul_plain import plain
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import floats, fresh, host, values
from tests.kernels.gpu.rough import rough_floats


def test_weight_may_lie_either_way():
    x, w = rough_floats(1, (2, 3, 20), "bfloat16"), rough_floats(2, (2, 20, 7), "bfloat16")
    turned = floats(values(w).transpose(0, 2, 1), "bfloat16")
    turned = DeviceArray(turned.address, "bfloat16", (2, 20, 7), (140, 1, 20), turned)
    left, right = fresh((2, 3, 7), "float32"), fresh((2, 3, 7), "float32")
    plain(x, w, None, left)
    plain(x, turned, None, right)
    assert_same_bits(host(left), host(right))
    expected = values(x).astype(np.float64) @ values(w).astype(np.float64)
    assert np.abs(values(left) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_row_does_not_see_its_batch(dtype):
    x, w = rough_floats(1, (1, 200, 999), dtype), rough_floats(2, (1, 999, 333), dtype)
    whole = fresh((1, 200, 333), "float32")
    plain(x, w, None, whole)
    for rows in (1, 16, 17, 64, 65):
        some = fresh((1, rows, 333), "float32")
        plain(x[:, 200 - rows :], w, None, some)
        assert_same_bits(host(some)[0], host(whole)[0, 200 - rows :])

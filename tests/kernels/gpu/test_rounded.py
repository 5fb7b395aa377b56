"""float32 rounded on the GPU: to nearest even, as the host does; edges."""

import numpy as np
import pytest

from detrec.kernels.gpu.rounded import rounded
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host


@pytest.mark.parametrize("dtype", FLOATS)
# 63: one ragged block. 1024: exactly one. 2500: two full blocks and a ragged one.
@pytest.mark.parametrize("cols", [1, 63, 1024, 2500])
def test_rounds_as_the_host_does(cols, dtype):
    x = np.random.default_rng(3).standard_normal((3, cols), dtype=np.float32)
    # halfway between two bfloat16, between two float16, and zeros of both signs
    x[0, :1], x[1, :1], x[2, :1] = 1 + 2.0**-8, 1 + 2.0**-11, -0.0
    assert_same_bits(host(rounded(device(x), fresh(x.shape, dtype))), host(floats(x, dtype)))


def test_nothing():
    assert host(rounded(fresh((0, 5), "float32"), fresh((0, 5), "bfloat16"))).shape == (0, 5)


def test_rejects_what_is_not_float32():
    with pytest.raises(ValueError, match=r"rounded: x is bfloat16 \[2, 3\]"):
        rounded(fresh((2, 3), "bfloat16"), fresh((2, 3), "float16"))

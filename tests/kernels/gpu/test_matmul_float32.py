"""The float32 matmul of a GPU that has TMA: the CPU kernel's bits from every tile."""

import numpy as np
import pytest

from detrec.kernels.cpu.matmul import matmul as cpu_matmul
from detrec.kernels.cpu.packed import pack_weight
from detrec.kernels.gpu.matmul_float32 import float32_rows, tile_of
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import device, fresh, host
from tests.kernels.gpu.rough import rough


@pytest.mark.gpu
# 4: less than one stage. 996: the last stage is partly past the end.
@pytest.mark.parametrize("depth", [4, 32, 996, 3584])
def test_every_tile_has_the_bits_of_the_cpu_kernel(depth):
    from triton.runtime import driver

    if driver.active.get_current_target().arch < 90:
        pytest.skip("a GPU without TMA")
    x, weight, bias = rough(1, 300, depth), rough(2, 700, depth), rough(3, 700)
    expected = cpu_matmul(x, pack_weight(weight), bias, np.empty((300, 700), np.float32))
    for tile in dict.fromkeys(tile_of(rows, 8192) for rows in (1, 9, 33, 65, 4096)):
        for rows in (1, 300):
            out = fresh((rows, 700), "float32")
            float32_rows(device(x[:rows]), device(weight), device(bias), out, tile)
            assert_same_bits(host(out), expected[:rows])

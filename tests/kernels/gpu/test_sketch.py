"""The sketch on the GPU: close to the CPU kernel's, a row at a time."""

import numpy as np
import pytest

from detrec.kernels.cpu.sketch import sketch as cpu_sketch
from detrec.kernels.gpu.sketch import sketch
from detrec.kernels.projections import PARTS
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host, values
from tests.kernels.lanes import rough


def sketched(x):
    return host(sketch(x, fresh((x.shape[0], PARTS), "float32")))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("width", [1, 63, 1024, 1500])
def test_is_the_sketch_of_the_cpu(width, dtype):
    x = floats(rough(5, width), dtype)
    expected = cpu_sketch(values(x), np.empty((5, PARTS), np.float32))
    scale = np.abs(values(x)).sum(axis=1, keepdims=True)
    assert (np.abs(sketched(x) - expected) <= 1e-6 * scale).all()


def test_row_does_not_see_its_batch():
    x = device(rough(20, 100))
    assert_same_bits(sketched(x), np.concatenate([sketched(x[i : i + 1]) for i in range(20)]))


def test_another_row_has_another_sketch():
    """Negative control: the test above could not pass on a sketch that sees nothing."""
    x = sketched(device(rough(2, 100)))
    assert (x[0] != x[1]).all()


def test_no_rows():
    assert sketched(device(np.zeros((0, 8), np.float32))).shape == (0, PARTS)


def test_misfits_are_refused():
    with pytest.raises(ValueError, match="sketch: out"):
        sketch(device(rough(2, 8)), fresh((2, 3), "float32"))

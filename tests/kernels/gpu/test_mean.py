"""Mean on the GPU: the CPU kernel's bits over any axes, invariance and its control, edges."""

import numpy as np
import pytest

from detrec.kernels.cpu.mean import mean as cpu_mean
from detrec.kernels.gpu import mean as module
from detrec.kernels.gpu.mean import mean
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host, values
from tests.kernels.lanes import rough


def averaged(x, axis, shape=()):
    """The mean of a device array over `axis`, on the host."""
    return host(mean(x, axis, fresh(shape, "float32")))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("cols", [1, 63, 1024, 2500])
def test_has_the_bits_of_the_cpu_kernel(cols, dtype):
    x = floats(rough(5, cols), dtype)
    assert_same_bits(averaged(x, 1, (5,)), cpu_mean(values(x), 1))


@pytest.mark.parametrize(
    "axis", [None, 0, 1, 2, 3, -1, (0, 1), (0, 2), (3, 1), (1, 2), (0, 2, 3), (0, 1, 2, 3), ()]
)
def test_any_axes(axis):
    x = rough(2 * 3 * 5 * 7, 1).reshape(2, 3, 5, 7)
    expected = cpu_mean(x, axis)
    assert_same_bits(averaged(device(x), axis, expected.shape), expected)


def test_many_rows_of_one_column_each():
    x = rough(1500, 40)
    assert_same_bits(averaged(device(x), 0, (40,)), cpu_mean(x, 0))


def test_a_view_with_gaps():
    x = rough(6 * 8, 10).reshape(6, 8, 10)
    view = device(x)[1:5, 2:7, 3:9]
    for axis, shape in ((None, ()), (0, (5, 6)), (1, (4, 6)), ((0, 2), (5,))):
        assert_same_bits(averaged(view, axis, shape), cpu_mean(x[1:5, 2:7, 3:9], axis))


def test_row_does_not_see_its_batch():
    x = device(rough(40, 100))
    alone = [averaged(x[i : i + 1], 1, (1,)) for i in range(40)]
    assert_same_bits(averaged(x, 1, (40,)), np.concatenate(alone))


def test_rough_rows_tell_one_order_from_another(monkeypatch):
    """Negative control: if this fails, the tests above can pass on a kernel of another order."""
    x = device(rough(40, 2500))
    before = averaged(x, 1, (40,))
    monkeypatch.setattr(module, "lanes_of", lambda columns: 256)
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(averaged(x, 1, (40,)), before)


def test_no_rows():
    assert averaged(fresh((0, 5), "float32"), 1, (0,)).shape == (0,)


def test_rejects_a_mean_of_nothing():
    with pytest.raises(ValueError, match=r"mean: axis 0 of shape \[0, 5\] holds no elements"):
        averaged(fresh((0, 5), "float32"), 0, (5,))


@pytest.mark.parametrize("axis", [2, (0, 0), (1, -1)])
def test_rejects_axes_that_are_not_there_or_twice(axis):
    with pytest.raises(ValueError, match="of an array of 2 dimensions"):
        averaged(device(rough(2, 3)), axis)


def test_rejects_out_of_another_shape():
    with pytest.raises(ValueError, match=r"contiguous float32 \[2\]"):
        averaged(device(rough(2, 3)), 1, (3,))


def test_rejects_more_gaps_than_it_walks():
    x = device(rough(3**4 * 2, 1).reshape(3, 3, 3, 3, 2))[:2, :2, :2, :2, :1]
    with pytest.raises(ValueError, match="needs 4 axes walked"):
        averaged(x, None)

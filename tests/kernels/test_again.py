"""A call that is launched again: on other memory, with the bits of one that is worked out anew."""

import numpy as np
import pytest

from detrec.kernels.again import Again
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.matmul import matmul
from detrec.kernels.gpu.silu_mul import silu_mul
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host


def rand(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def same(x: DeviceArray) -> DeviceArray:
    return x


class Counted:
    """A call that says how often it was worked out."""

    def __init__(self, call):
        self.times, self._call = 0, call

    def __call__(self, *arrays):
        self.times += 1
        self._call(*arrays)


def products(dtype: str, rows: int) -> None:
    """Through descriptors of memory, and with a bias that stays where it is."""
    weight, bias = floats(rand(0, 48, 64), dtype), device(rand(9, 48))
    counted = Counted(lambda x, out: matmul(x, weight, bias, out))
    again = Again(counted, same)
    kept = [floats(rand(seed, rows, 64), dtype) for seed in (1, 2, 3)]
    for x in kept:
        out, expected = fresh((rows, 48), dtype), fresh((rows, 48), dtype)
        again(0, x, out)
        assert_same_bits(host(out), host(matmul(x, weight, bias, expected)))
    assert counted.times == 1


@pytest.mark.parametrize("dtype", FLOATS)
def test_other_memory_is_read_and_written(dtype):
    products(dtype, 3)


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [1, 64, 300, 2500])
@pytest.mark.parametrize("dtype", FLOATS)
def test_other_memory_is_read_and_written_by_every_kind_of_tile(dtype, rows):
    products(dtype, rows)


def test_arrays_that_are_not_alike_are_worked_out_by_themselves():
    """Another shape, other strides, and memory that is not aligned, which is read in other units."""
    counted = Counted(silu_mul)
    again = Again(counted, same)
    wide = device(rand(1, 4, 40))
    views = [wide[:, :32], wide[:3, :32], device(rand(2, 4, 32)), wide[:, 1:33], wide[:, :16]]
    for _ in range(2):
        for x in views:
            shape = (len(x), x.shape[1] // 2)
            out, expected = fresh(shape, "float32"), fresh(shape, "float32")
            again(0, x, out)
            assert_same_bits(host(out), host(silu_mul(x, expected)))
    assert counted.times == len(views)


def test_part_of_an_array_stays_that_part():
    again = Again(lambda x, out: silu_mul(x[1:, 8:], out), same)
    for seed in (1, 2):
        x, out, expected = device(rand(seed, 3, 40)), fresh((2, 16), "float32"), fresh((2, 16), "float32")
        again(0, x, out)
        assert_same_bits(host(out), host(silu_mul(x[1:, 8:], expected)))


def test_a_view_that_is_a_copy_is_refused():
    """What is written to it would be lost."""
    again = Again(silu_mul, lambda x: device(host(x)))
    with pytest.raises(AssertionError, match="a view that is a copy"):
        again(0, device(rand(1, 2, 8)), fresh((2, 4), "float32"))


def test_only_so_many_are_kept(monkeypatch):
    monkeypatch.setattr("detrec.kernels.again._KEPT", 2)
    counted = Counted(silu_mul)
    again = Again(counted, same)
    for rows in (1, 2, 3, 3, 1):
        again(0, device(rand(1, rows, 8)), fresh((rows, 4), "float32"))
    assert counted.times == 4
    assert len(again._known) == 2

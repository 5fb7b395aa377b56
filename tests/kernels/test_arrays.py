"""Arrays: who owns a tensor, and how its memory is seen."""

import sys

import numpy as np
import pytest

from detrec.errors import EngineError
from detrec.kernels import arrays
from tests.bits import assert_same_bits


@pytest.fixture(params=["paddle", "torch"])
def framework(request) -> str:
    pytest.importorskip(request.param)
    return request.param


@pytest.mark.parametrize("dtype", ["float32", "int64", "int32", "uint8"])
def test_a_tensor_comes_back_as_it_went(framework, dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    tensor = arrays.from_numpy(framework, array)
    assert arrays.dtype(tensor) == dtype
    assert_same_bits(arrays.to_numpy(tensor), array)


def test_uint16_is_bfloat16(framework):
    bits = np.array([[0x3F80, 0x7FC0], [0x8000, 0xFFFF]], np.uint16)
    tensor = arrays.from_numpy(framework, bits)
    assert arrays.dtype(tensor) == "bfloat16"
    assert_same_bits(arrays.to_numpy(tensor), bits)
    assert float(tensor[0, 0]) == 1.0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_host_view_is_the_tensors_memory(framework, dtype):
    tensor = arrays.empty(framework, (2, 3), dtype)
    view = arrays.host_view(tensor)
    assert view.ctypes.data == arrays.data_ptr(tensor)
    view[...] = 0
    view[1, 2] = 1
    assert_same_bits(arrays.to_numpy(tensor), view)


def test_a_view_keeps_its_tensor_alive(framework):
    view = arrays.host_view(arrays.empty(framework, (1000,)))
    view[:] = 3
    arrays.host_view(arrays.empty(framework, (1000,)))[:] = 4
    assert (view == 3).all()


def test_a_copy_is_a_copy(framework):
    array = np.zeros(4, np.float32)
    tensor = arrays.from_numpy(framework, array)
    array[:] = 1
    copy = arrays.to_numpy(tensor)
    arrays.host_view(tensor)[:] = 2
    assert (copy == 0).all()


def test_synchronize_has_nothing_to_wait_for_on_a_cpu(framework):
    arrays.synchronize(framework)


def test_a_missing_framework_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    arrays.framework_module.cache_clear()
    with pytest.raises(EngineError, match="torch") as caught:
        arrays.empty("torch", (1,))
    arrays.framework_module.cache_clear()
    assert caught.value.hint == "pip install 'detrec[torch]'"


def test_rejects_a_framework_it_does_not_know():
    with pytest.raises(ValueError, match="jax"):
        arrays.empty("jax", (1,))


@pytest.mark.parametrize(("dtype", "stored"), [("float32", np.float32), ("bfloat16", np.uint16)])
def test_numpys_own_memory_is_its_own_view(dtype, stored):
    memory = arrays.empty("numpy", (3, 5), dtype)
    assert (memory.shape, memory.dtype) == ((3, 5), stored)
    assert arrays.host_view(memory) is memory

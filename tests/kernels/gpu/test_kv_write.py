"""The paged cache on the GPU: what is stored, what is read back, padding, edges."""

import numpy as np
import pytest

from detrec.kernels.cpu.kv_write import kv_write as cpu_kv_write
from detrec.kernels.gpu.kv_write import kv_write
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host, values

SLOTS = np.array([7, 0, 11], np.int64)


def rand(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape, dtype=np.float32)


# 24: one ragged tile. 1024: exactly one tile. 2500: two full tiles and a ragged one.
@pytest.mark.parametrize("cols", [24, 1024, 2500])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_stores_and_gives_what_the_cpu_kernel_does(stored, dtype, cols):
    k, v = floats(rand(3, cols), dtype), floats(rand(3, cols)[::-1], dtype)
    cache = fresh((3, 4, 2, cols), stored)
    expected, cpu_out = host(cache), np.empty((3, 2 * cols), host(k).dtype)
    cpu_kv_write(host(k), host(v), expected, SLOTS, cpu_out)
    out = kv_write(k, v, cache, device(SLOTS), fresh((3, 2 * cols), dtype))
    assert_same_bits(host(out), cpu_out)
    assert_same_bits(host(cache), expected)


def test_float16_is_copied():
    k, v = floats(rand(3, 24), "float16"), floats(rand(3, 24)[::-1], "float16")
    cache = fresh((3, 4, 2, 24), "float16")
    out = host(kv_write(k, v, cache, device(SLOTS), fresh((3, 48), "float16")))
    assert_same_bits(out, np.concatenate([host(k), host(v)], axis=1))
    assert_same_bits(host(cache).reshape(12, 48)[SLOTS], out)


@pytest.mark.parametrize("dtype", FLOATS)
def test_padding_stores_nothing_and_gives_zeros(dtype):
    k, v = floats(rand(3, 24), dtype), floats(rand(3, 24), dtype)
    cache = floats(rand(3, 4, 2, 24), dtype)
    before = host(cache)
    # the last block is not the cache's: a slot past the end must not reach it
    out = kv_write(k, v, cache[:2], device(np.array([-1, 8, 1 << 40], np.int64)), fresh((3, 48), dtype))
    assert_same_bits(host(cache), before)
    assert not host(out).any()


def test_rows_may_be_slices_of_wider_ones():
    qkv = device(rand(3, 200))
    cache = fresh((3, 4, 2, 24), "float32")
    out = kv_write(qkv[:, 100:124], qkv[:, 124:148], cache, device(SLOTS), fresh((3, 48), "float32"))
    assert_same_bits(host(out), host(qkv)[:, 100:148])


def test_no_rows():
    empty = fresh((0, 24), "float32")
    out = kv_write(
        empty, empty, fresh((1, 4, 2, 24), "float32"), fresh((0,), "int64"), fresh((0, 48), "float32")
    )
    assert values(out).shape == (0, 48)


def test_rejects_a_cache_of_another_width():
    x = fresh((3, 24), "float32")
    with pytest.raises(ValueError, match=r"cache \[3, 4, 2, 25\]"):
        kv_write(x, x, fresh((3, 4, 2, 25), "float32"), device(SLOTS), fresh((3, 48), "float32"))


def test_rejects_slots_of_another_dtype():
    x = fresh((3, 24), "float32")
    with pytest.raises(ValueError, match=r"kv_write: slots is int32 \[3\]"):
        kv_write(x, x, fresh((3, 4, 2, 24), "float32"), fresh((3,), "int32"), fresh((3, 48), "float32"))

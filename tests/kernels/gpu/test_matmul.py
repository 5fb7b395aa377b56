"""Matmul on the GPU: meaning, a row's bits alone and in any batch, every kernel's bits, edges.

The interpreter's dot is numpy's, whose order depends on the batch: bits are compared on a GPU only.
"""

import numpy as np
import pytest

from detrec.kernels import cuda
from detrec.kernels.cpu.matmul import matmul as cpu_matmul
from detrec.kernels.cpu.packed import pack_weight
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu import matmul as file
from detrec.kernels.gpu.matmul import addmm, bmm, matmul
from detrec.kernels.gpu.matmul_narrow import narrow_rows, tile_of
from detrec.kernels.gpu.matmul_plain import plain
from detrec.kernels.launch import on_stream
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host, values
from tests.kernels.gpu.rough import rough, rough_floats

TOLERANCE = {"float32": 1e-6, "float16": 2e-3, "bfloat16": 2e-2}

# rows in [1, 16], (16, 32], (32, 64] and more are multiplied by different tiles
ROWS = [1, 15, 16, 32, 33, 65, 300]


def rand(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).standard_normal(shape, dtype=np.float32)


def by_plain(x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None, out: DeviceArray) -> DeviceArray:
    """What the kernel that takes every shape gives."""
    (rows, depth), cols = x.shape, weight.shape[0]
    plain(
        DeviceArray(x.address, x.dtype, (1, rows, depth), (0, *x.strides), x),
        DeviceArray(weight.address, weight.dtype, (1, depth, cols), (0, 1, depth), weight),
        bias,
        DeviceArray(out.address, out.dtype, (1, rows, cols), (0, *out.strides), out),
    )
    return out


@pytest.mark.parametrize("dtype", FLOATS)
# 70: TMA cannot reach rows of 140 bytes. 80: it can, and half a tile of k is past the end.
@pytest.mark.parametrize("depth", [1, 70, 80])
@pytest.mark.parametrize("rows", [1, 20, 70])
def test_matches_float64(rows, depth, dtype):
    x, weight, bias = floats(rand(rows, depth), dtype), floats(rand(37, depth), dtype), device(rand(37))
    expected = values(x).astype(np.float64) @ values(weight).T.astype(np.float64) + values(bias)
    out = values(matmul(x, weight, bias, fresh((rows, 37), dtype)))
    assert np.abs(out - expected).max() <= TOLERANCE[dtype] * np.abs(expected).max()
    out = values(matmul(x, weight, bias, fresh((rows, 37), "float32")))
    assert np.abs(out - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("dtype", FLOATS)
def test_bias_is_added_once_and_addmm_is_matmul(dtype):
    x, weight, bias = floats(rand(3, 16), dtype), floats(np.zeros((5, 16)), dtype), device(rand(5))
    out = values(addmm(bias, x, weight, fresh((3, 5), "float32")))
    assert_same_bits(out, np.broadcast_to(values(bias), (3, 5)).copy())
    assert_same_bits(out, values(matmul(x, weight, bias, fresh((3, 5), "float32"))))
    assert not values(matmul(x, weight, None, fresh((3, 5), dtype))).any()


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_may_be_slices_of_wider_ones(dtype):
    wide = floats(rand(4, 64), dtype)
    weight = floats(rand(24, 16), dtype)
    expected = values(wide)[:, 24:40] @ values(weight).T
    place = fresh((4, 64), "float32")
    matmul(wide[:, 24:40], weight, None, place[:, 8:32])
    stored = values(place)
    assert np.abs(stored[:, 8:32] - expected).max() <= 1e-6 * np.abs(expected).max()
    assert np.isnan(np.delete(stored, np.s_[8:32], axis=1)).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_bmm_matches_float64(dtype):
    x, w = floats(rand(2, 5, 20), dtype), floats(rand(2, 20, 7), dtype)
    expected = values(x).astype(np.float64) @ values(w).astype(np.float64)
    out = values(bmm(x, w, fresh((2, 5, 7), "float32")))
    assert np.abs(out - expected).max() <= 1e-6 * np.abs(expected).max()


def test_no_rows_and_no_columns():
    assert matmul(fresh((0, 8), "bfloat16"), fresh((4, 8), "bfloat16"), None, fresh((0, 4), "bfloat16")).shape
    assert matmul(fresh((4, 8), "bfloat16"), fresh((0, 8), "bfloat16"), None, fresh((4, 0), "bfloat16")).shape
    assert bmm(fresh((0, 2, 3), "float32"), fresh((0, 3, 4), "float32"), fresh((0, 2, 4), "float32")).shape


def test_rejects_what_does_not_fit():
    x, weight, out = fresh((2, 8), "bfloat16"), fresh((4, 8), "bfloat16"), fresh((2, 4), "bfloat16")
    with pytest.raises(ValueError, match=r"matmul: x \[2, 8\] and weight \[4, 8\] do not give out \[2, 8\]"):
        matmul(x, weight, None, x)
    with pytest.raises(ValueError, match=r"matmul: x is bfloat16, weight float32, out bfloat16"):
        matmul(x, fresh((4, 8), "float32"), None, out)
    with pytest.raises(ValueError, match=r"matmul: x is bfloat16, weight bfloat16, out float16"):
        matmul(x, weight, None, fresh((2, 4), "float16"))
    with pytest.raises(ValueError, match=r"matmul: weight has strides \[16, 1\], expected contiguous"):
        matmul(x, fresh((4, 16), "bfloat16")[:, :8], None, out)
    with pytest.raises(ValueError, match=r"matmul: bias is .*bfloat16.*, weight needs a contiguous float32"):
        matmul(x, weight, fresh((4,), "bfloat16"), out)
    with pytest.raises(ValueError, match=r"a row of x is not contiguous, its strides are \[1, 2\]"):
        matmul(DeviceArray(x.address, "bfloat16", (2, 8), (1, 2), x), weight, None, out)
    with pytest.raises(ValueError, match=r"bmm: x \[1, 2, 8\] and w \[1, 4, 8\] do not give out"):
        bmm(x.reshape(1, 2, 8), weight.reshape(1, 4, 8), out.reshape(1, 2, 4))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", FLOATS)
# 3584, 4608: of Qwen2.5-7B. 1000: half of a tile of k is past the end. 102: fetched without TMA.
@pytest.mark.parametrize(("depth", "cols"), [(3584, 4608), (1000, 1000), (102, 72)])
def test_row_does_not_see_its_batch(depth, cols, dtype):
    x, weight = rough_floats(1, (ROWS[-1], depth), dtype), rough_floats(2, (cols, depth), dtype)
    bias = device(rand(cols))
    expected = host(by_plain(x, weight, bias, fresh((ROWS[-1], cols), "float32")))
    for rows in ROWS:
        # the last rows of the batch: other neighbours, another place in the tile
        part = x[ROWS[-1] - rows :]
        out = matmul(part, weight, bias, fresh((rows, cols), "float32"))
        assert_same_bits(host(out), expected[ROWS[-1] - rows :])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_output_is_rounded_once(dtype):
    x, weight = rough_floats(1, (100, 1000), dtype), rough_floats(2, (500, 1000), dtype)
    bias = device(rand(500))
    for rows in (5, 100):
        exact = matmul(x[:rows], weight, bias, fresh((rows, 500), "float32"))
        rounded = matmul(x[:rows], weight, bias, fresh((rows, 500), dtype))
        assert_same_bits(host(rounded), host(floats(values(exact), dtype)))


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [1, 70])
def test_a_vocabulary_of_columns(rows):
    """More tiles than any other weight of a model has."""
    x, weight = rough_floats(1, (rows, 64), "bfloat16"), rough_floats(2, (152064, 64), "bfloat16")
    out = matmul(x, weight, None, fresh((rows, 152064), "float32"))
    assert_same_bits(host(out), host(by_plain(x, weight, None, fresh((rows, 152064), "float32"))))


@pytest.mark.gpu
@pytest.mark.parametrize("depth", [3584, 1000, 100, 1])
def test_float32_has_the_bits_of_the_cpu_kernel(depth):
    x, weight, bias = rough(1, 300, depth), rough(2, 200, depth), rand(200)
    expected = cpu_matmul(x, pack_weight(weight), bias, np.empty((300, 200), np.float32))
    for rows in ROWS:
        out = matmul(device(x[:rows]), device(weight), device(bias), fresh((rows, 200), "float32"))
        assert_same_bits(host(out), expected[:rows])
    one = bmm(device(x[None]), device(weight.T[None]), fresh((1, 300, 200), "float32"))
    unbiased = cpu_matmul(x, pack_weight(weight), None, np.empty((300, 200), np.float32))
    assert_same_bits(host(one)[0], unbiased)


@pytest.mark.gpu
def test_rough_rows_tell_one_order_from_another():
    """Negative control: if this fails, the tests above can pass on a kernel that is not invariant."""
    x, weight = rough_floats(1, (16, 3584), "bfloat16"), rough_floats(2, (512, 3584), "bfloat16")
    whole = host(matmul(x, weight, None, fresh((16, 512), "float32")))
    halves = []
    for half in (slice(0, 1792), slice(1792, 3584)):
        part = device(host(weight)[:, half])
        halves.append(host(matmul(x[:, half], part, None, fresh((16, 512), "float32"))))
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(whole, halves[0] + halves[1])


@pytest.mark.gpu
def test_random_shapes_have_one_order():
    """Every kernel on shapes that nobody chose, ragged ones and TMA's alike."""
    dtype = "bfloat16"
    random = np.random.default_rng(5)
    for trial in range(9):
        depth, cols = int(random.integers(1, 5000)), int(random.integers(1, 700))
        if trial % 3:
            depth, cols = (depth + 7) // 8 * 8, (cols + 7) // 8 * 8
        rows = int(random.choice(ROWS))
        x = rough_floats(trial, (rows, depth), dtype)
        weight = rough_floats(trial + 100, (cols, depth), dtype)
        expected = host(by_plain(x, weight, None, fresh((rows, cols), "float32")))
        assert_same_bits(host(matmul(x, weight, None, fresh((rows, cols), "float32"))), expected)
        if depth % 8 == 0:
            out = fresh((rows, cols), "float32")
            narrow_rows(x, weight, None, out, tile_of(int(random.choice(ROWS)), 4096, dtype))
            assert_same_bits(host(out), expected)


@pytest.mark.gpu
@pytest.mark.parametrize(("rows", "dtype"), [(3, "bfloat16"), (300, "bfloat16"), (3, "float32")])
def test_runs_again_in_a_graph(rows, dtype):
    stream = cuda.Stream()
    x, weight = rough_floats(1, (rows, 512), dtype), rough_floats(2, (4096, 512), dtype)
    expected = host(matmul(x, weight, None, fresh((rows, 4096), dtype)))
    out = fresh((rows, 4096), dtype)
    with on_stream(stream.handle):
        stream.begin_capture()
        matmul(x, weight, None, out)
        graph = stream.end_capture()
    assert np.isnan(values(out)).all()
    stream.run(graph)
    stream.synchronize()
    assert_same_bits(host(out), expected)


@pytest.mark.gpu
def test_many_rows_run_on_warpgroups_on_a_hopper():
    """Else the tests above prove nothing of `matmul_wide`."""
    from triton.runtime import driver

    assert all(file._tuned()) == (driver.active.get_current_target().arch == 90)

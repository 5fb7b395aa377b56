"""Matmul with K as leaves in a tree, on the GPU: its meaning, the same bits for any number of ranks and rows.

The interpreter's dot is numpy's, whose order depends on the batch: without a GPU bits are compared only where
a leaf is one product.
"""

import numpy as np
import pytest

from detrec.kernels import cuda
from detrec.kernels.cpu import matmul_leaves as on_cpu
from detrec.kernels.cpu.packed import pack_weight
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.matmul import matmul
from detrec.kernels.gpu.matmul_leaves import matmul_leaves
from detrec.kernels.gpu.matmul_plain import plain
from detrec.kernels.launch import on_stream
from detrec.kernels.leaves import LEAVES
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host, values
from tests.kernels.gpu.rough import rough, rough_floats
from tests.kernels.test_matmul_leaves import tree

TOLERANCE = {"float32": 1e-6, "float16": 2e-3, "bfloat16": 2e-2}

# rows in [1, 16], (16, 32], (32, 64] and more are multiplied by different tiles and kernels
ROWS = [1, 16, 33, 70, 300]


def whole(x: DeviceArray, weight: DeviceArray, dtype: str = "float32") -> np.ndarray:
    """What one rank gives."""
    return host(matmul_leaves(x, weight, fresh((len(x), len(weight)), dtype), leaves=LEAVES))


def cut(array: DeviceArray, ranks: int) -> list[DeviceArray]:
    """The columns of each rank, as memory of its own."""
    return [device(np.ascontiguousarray(part)) for part in np.split(host(array), ranks, axis=1)]


def partials(x: DeviceArray, weight: DeviceArray, ranks: int) -> list[np.ndarray]:
    """What each rank gives of its columns."""
    out = (len(x), len(weight))
    return [
        host(matmul_leaves(a, b, fresh(out, "float32"), leaves=LEAVES // ranks))
        for a, b in zip(cut(x, ranks), cut(weight, ranks), strict=True)
    ]


@pytest.mark.parametrize("dtype", FLOATS)
# 8: leaves of one k. 72: of 9, which TMA cannot reach. 192: it can, and what is past their end reads as 0.0.
@pytest.mark.parametrize("depth", [8, 72, 192])
@pytest.mark.parametrize("rows", [1, 20, 70])
def test_matches_float64(rows, depth, dtype):
    x, weight = rough_floats(1, (rows, depth), dtype), rough_floats(2, (37, depth), dtype)
    expected = values(x).astype(np.float64) @ values(weight).T.astype(np.float64)
    # the rough values of a row cancel: an error is small against the largest product
    bound = (abs(values(x)).astype(np.float64) @ abs(values(weight)).T.astype(np.float64)).max()
    for kind in {dtype, "float32"}:
        out = values(matmul_leaves(x, weight, fresh((rows, 37), kind), leaves=LEAVES))
        assert np.abs(out - expected).max() <= TOLERANCE[kind] * bound


def one_product_a_leaf(depth: int, dtype: str) -> tuple[DeviceArray, DeviceArray]:
    """x [5, depth] and a weight [24, depth] that is zero but for one k of each leaf."""
    w = np.zeros((24, depth))
    w[:, np.arange(LEAVES) * (depth // LEAVES) + 3] = rough(2, 24, LEAVES)
    return rough_floats(1, (5, depth), dtype), floats(w, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("depth", [72, 192])
@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_leaves_are_added_in_the_tree(ranks, depth, dtype):
    x, weight = one_product_a_leaf(depth, dtype)
    w = values(weight)
    places = [np.flatnonzero(part.any(0)) for part in np.split(w, LEAVES, axis=1)]
    leaves = [
        values(x)[:, [i * (depth // LEAVES) + place[0]]] * w[:, i * (depth // LEAVES) + place[0]]
        for i, place in enumerate(places)
    ]
    assert_same_bits(tree(partials(x, weight, ranks)), tree(leaves))
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(tree(partials(x, weight, ranks)), np.add.reduce(leaves))


def test_no_rows_and_no_columns():
    for rows, cols in ((0, 4), (4, 0)):
        out = fresh((rows, cols), "bfloat16")
        assert (
            matmul_leaves(fresh((rows, 64), "bfloat16"), fresh((cols, 64), "bfloat16"), out, leaves=LEAVES)
            is out
        )


def test_rejects_what_the_leaves_do_not_divide():
    x, weight, out = fresh((2, 36), "bfloat16"), fresh((4, 36), "bfloat16"), fresh((2, 4), "bfloat16")
    with pytest.raises(ValueError, match="matmul_leaves: K is 36, which 8 leaves do not divide"):
        matmul_leaves(x, weight, out, leaves=LEAVES)
    for leaves in (0, 3, 16):
        with pytest.raises(ValueError, match=f"leaves is {leaves}, expected 1, 2, 4 or 8"):
            matmul_leaves(x, weight, out, leaves=leaves)
    with pytest.raises(ValueError, match=r"do not give out \[2, 36\]"):
        matmul_leaves(x, weight, x, leaves=4)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", FLOATS)
# 3584: of Qwen2.5-7B, leaves of 7 tiles of k. 1600: leaves of 200, not a multiple of a tile, nor of 16 k.
# 648: leaves of 81, which TMA cannot reach.
@pytest.mark.parametrize(("depth", "cols"), [(3584, 2304), (1600, 1000), (648, 72)])
def test_partial_sums_added_in_the_tree_are_the_whole_layer(depth, cols, dtype):
    x, weight = rough_floats(1, (ROWS[-1], depth), dtype), rough_floats(2, (cols, depth), dtype)
    expected = whole(x, weight)
    for rows in ROWS:
        # the last rows of the batch: other neighbours, another place in the tile
        part = x[ROWS[-1] - rows :]
        assert_same_bits(whole(part, weight), expected[ROWS[-1] - rows :])
        for ranks in (2, 4, 8):
            assert_same_bits(tree(partials(part, weight, ranks)), expected[ROWS[-1] - rows :])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_leaf_is_the_plain_matmul_of_its_columns(dtype):
    x, weight = rough_floats(1, (100, 1600), dtype), rough_floats(2, (300, 1600), dtype)
    leaves = [
        host(matmul(a, b, None, fresh((100, 300), "float32")))
        for a, b in zip(cut(x, LEAVES), cut(weight, LEAVES), strict=True)
    ]
    assert_same_bits(whole(x, weight), tree(leaves))


@pytest.mark.gpu
@pytest.mark.parametrize("depth", [3584, 1600, 1592])
def test_float32_has_the_bits_of_the_cpu_kernel(depth):
    x, weight = rough(1, 300, depth), rough(2, 200, depth)
    expected = on_cpu.matmul_leaves(x, pack_weight(weight), np.empty((300, 200), np.float32), leaves=LEAVES)
    for rows in ROWS:
        assert_same_bits(whole(device(x[:rows]), device(weight)), expected[:rows])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_output_is_rounded_once(dtype):
    x, weight = rough_floats(1, (300, 1600), dtype), rough_floats(2, (2304, 1600), dtype)
    for rows in (5, 300):
        exact = matmul_leaves(x[:rows], weight, fresh((rows, 2304), "float32"), leaves=LEAVES)
        assert_same_bits(whole(x[:rows], weight, dtype), host(floats(values(exact), dtype)))


@pytest.mark.gpu
@pytest.mark.parametrize("leaves", [2, 4, 8])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_kernel_has_the_same_bits(dtype, leaves):
    x, weight = rough_floats(1, (300, 1600), dtype), rough_floats(2, (2304, 1600), dtype)
    expected, out = fresh((1, 300, 2304), "float32"), fresh((300, 2304), "float32")
    plain(
        DeviceArray(x.address, dtype, (1, 300, 1600), (0, 1600, 1), x),
        DeviceArray(weight.address, dtype, (1, 1600, 2304), (0, 1, 1600), weight),
        None, expected, leaves,
    )  # fmt: skip
    assert_same_bits(host(matmul_leaves(x, weight, out, leaves=leaves)), host(expected)[0])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_plain_matmul_cut_among_ranks_has_other_bits(dtype):
    """Negative control: if this fails, the tests above can pass on a kernel that sums K in one chain."""
    x, weight = rough_floats(1, (70, 3584), dtype), rough_floats(2, (512, 3584), dtype)
    out = fresh((70, 512), "float32")
    halves = [
        host(matmul(a, b, None, fresh((70, 512), "float32")))
        for a, b in zip(cut(x, 2), cut(weight, 2), strict=True)
    ]
    for other in (host(matmul(x, weight, None, out)), whole(x, weight)):
        with pytest.raises(AssertionError, match="differ in bits"):
            assert_same_bits(halves[0] + halves[1], other)


@pytest.mark.gpu
@pytest.mark.parametrize(("rows", "dtype"), [(3, "bfloat16"), (300, "bfloat16"), (3, "float32")])
def test_runs_again_in_a_graph(rows, dtype):
    stream = cuda.Stream()
    x, weight = rough_floats(1, (rows, 512), dtype), rough_floats(2, (4096, 512), dtype)
    expected, out = whole(x, weight, dtype), fresh((rows, 4096), dtype)
    with on_stream(stream.handle):
        stream.begin_capture()
        matmul_leaves(x, weight, out, leaves=LEAVES)
        graph = stream.end_capture()
    assert np.isnan(values(out)).all()
    for _ in range(2):
        stream.run(graph)
        stream.synchronize()
        assert_same_bits(host(out), expected)

"""Fault kernels mean what the right ones mean, and add in another order: without that they would be none."""

import numpy as np
import pytest

from detrec.kernels.cpu.attention import attention
from detrec.kernels.cpu.attention_parts import attention_in_parts
from detrec.kernels.cpu.packed import pack_weight
from detrec.kernels.cpu.rms_norm import rms_norm
from detrec.kernels.cpu.rms_norm_lanes import rms_norm_by_lanes
from detrec.kernels.cpu.silu_mul import silu_mul
from detrec.kernels.cpu.silu_tanh import silu_mul_by_tanh
from detrec.kernels.cpu.split_k import racing_matmul, split_k_matmul
from tests.bits import assert_same_bits
from tests.kernels.lanes import rough

DEPTH, BLOCK = 16, 8


def attended(dtype: type = np.float32):
    """Arguments of an attention over 13 blocks out of order: two sequences, three rows, two heads of KV."""
    rng = np.random.default_rng(5)
    cache = rng.standard_normal((20, BLOCK, 2, 2 * DEPTH)).astype(np.float32)
    q = rng.standard_normal((3, 4 * DEPTH)).astype(np.float32)
    if dtype == np.uint16:
        cache, q = ((x.view(np.uint32) >> 16).astype(np.uint16) for x in (cache, q))
    tables = rng.permutation(20)[:18].reshape(2, 9).astype(np.int32)
    return q, cache, tables, np.array([1, 0, 1], np.int32), np.array([70, 33, 0]), DEPTH**-0.5


def starts(*row: int) -> np.ndarray:
    return np.array([row] * 3, np.int64)


ORDERS = [
    pytest.param(starts(0), 16, id="smaller blocks"),
    pytest.param(starts(0), 1 << 30, id="one block"),
    pytest.param(starts(0, 20, 40, 60), 1 << 30, id="parts"),
    pytest.param(starts(0, 5), 32, id="parts of blocks"),
]


@pytest.mark.parametrize(("parts", "block"), ORDERS)
def test_attention_in_parts_is_attention_in_another_order(parts, block):
    args = attended()
    right = attention(*args, np.empty_like(args[0]))
    wrong = attention_in_parts(*args, np.empty_like(args[0]), parts, block)
    np.testing.assert_allclose(wrong, right, rtol=2e-5, atol=2e-6)
    for row in (0, 1):
        assert right[row].tobytes() != wrong[row].tobytes()
    # a row that sees one position weighs it with 1
    assert_same_bits(right[2], wrong[2])


def test_every_order_of_attention_is_another():
    args = attended()
    outputs = {
        attention_in_parts(*args, np.empty_like(args[0]), parts, block)[0].tobytes()
        for parts, block in (each.values for each in ORDERS)
    }
    assert len(outputs) == len(ORDERS)


def test_parts_past_a_rows_position_do_not_exist():
    args = attended()
    near, far = (
        attention_in_parts(*args, np.empty_like(args[0]), parts, 16)
        for parts in (starts(0, 40), starts(0, 40, 71, 300))
    )
    assert_same_bits(near, far)


def test_attention_in_parts_reads_and_writes_bfloat16():
    args = attended(np.uint16)
    wrong = attention_in_parts(*args, np.empty_like(args[0]), starts(0, 20), 16)
    right = attention(*args, np.empty_like(args[0]))
    a, b = ((x.astype(np.uint32) << 16).view(np.float32) for x in (right, wrong))
    np.testing.assert_allclose(b, a, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize(("parts", "block"), [(starts(1), 8), (starts(0, 0), 8), (starts(0), 0)])
def test_parts_that_do_not_rise_from_zero_are_refused(parts, block):
    args = attended()
    with pytest.raises(ValueError, match="attention_in_parts: "):
        attention_in_parts(*args, np.empty_like(args[0]), parts, block)


def test_rms_norm_by_its_own_lanes_is_rms_norm_and_by_others_another_order():
    x, weight = rough(9, 96), rough(1, 96, seed=3)[0]
    right = rms_norm(x, weight, 1e-6, np.empty_like(x))
    assert_same_bits(rms_norm_by_lanes(x, weight, 1e-6, np.empty_like(x), 128), right)
    outputs = {right.tobytes()}
    for lanes in (1, 2, 4):
        wrong = rms_norm_by_lanes(x, weight, 1e-6, np.empty_like(x), lanes)
        np.testing.assert_allclose(wrong, right, rtol=1e-5)
        outputs.add(wrong.tobytes())
    assert len(outputs) == 4
    grouped = rms_norm_by_lanes(
        np.concatenate([x, x], axis=1), weight, 1e-6, np.empty((9, 192), np.float32), 2
    )
    assert_same_bits(grouped[:, :96].copy(), grouped[:, 96:].copy())


@pytest.mark.parametrize("lanes", [0, 3])
def test_lanes_that_form_no_tree_are_refused(lanes):
    x = rough(1, 8)
    with pytest.raises(ValueError, match="expected a power of two"):
        rms_norm_by_lanes(x, x[0], 1e-6, np.empty_like(x), lanes)


def test_silu_by_tanh_is_silu_to_its_last_bits():
    x = np.linspace(-200, 200, 4000, dtype=np.float32).reshape(10, 400)
    x[:, 200:] = 1
    right, wrong = (kernel(x, np.empty((10, 200), np.float32)) for kernel in (silu_mul, silu_mul_by_tanh))
    np.testing.assert_allclose(wrong, right, rtol=1e-5, atol=1e-5)
    assert (right.view(np.uint32) != wrong.view(np.uint32)).mean() > 0.02


def test_racing_leaves_are_those_of_split_k():
    """One leaf cannot race, and two give one sum whoever comes first."""
    x, weight, bias = rough(4, 96), pack_weight(rough(40, 96, seed=3)), rough(1, 40, seed=4)[0]
    for leaves in (1, 2):
        racing, split = (
            matmul(x, weight, bias, np.empty((4, 40), np.float32), leaves)
            for matmul in (racing_matmul, split_k_matmul)
        )
        assert_same_bits(racing, split)

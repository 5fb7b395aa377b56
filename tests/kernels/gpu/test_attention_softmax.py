"""The row sum is exact, therefore the same in any order; merging with nothing changes nothing."""

import numpy as np
import pytest

from detrec.kernels.gpu.attention_softmax import exact_sum, merge
from detrec.kernels.launch import launch, tl, triton
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import device, fresh, host

ROWS = 4


@triton.jit
def _sum_kernel(p_ptr, out_ptr, ROWS: tl.constexpr, N: tl.constexpr):
    row, lane = tl.arange(0, ROWS), tl.arange(0, N)
    tl.store(out_ptr + row, exact_sum(tl.load(p_ptr + row[:, None] * N + lane)))


@triton.jit
def _merge_kernel(state_ptr, out_ptr, ROWS: tl.constexpr, D: tl.constexpr):
    row, d = tl.arange(0, ROWS), tl.arange(0, D)
    m, total = tl.load(state_ptr + row), tl.load(state_ptr + ROWS + row)
    acc = tl.load(state_ptr + 2 * ROWS + row[:, None] * D + d)
    nothing = tl.full([ROWS], float("-inf"), tl.float32), tl.zeros([ROWS], tl.float32), acc * 0.0
    m, total, acc = merge(m, total, acc, *nothing)
    m, total, acc = merge(*nothing, m, total, acc)
    tl.store(out_ptr + row, m)
    tl.store(out_ptr + ROWS + row, total)
    tl.store(out_ptr + 2 * ROWS + row[:, None] * D + d, acc)


def summed(p: np.ndarray) -> np.ndarray:
    out = fresh((ROWS,), "float32")
    launch(_sum_kernel, (1,), device(p), out, ROWS=ROWS, N=p.shape[1], num_warps=4)
    return host(out)


def weights(lanes: int) -> np.ndarray:
    """Weights from 1 down to what is far below the last bit, and whole rows of ones and of zeros."""
    p = np.exp2(-40 * np.random.default_rng(0).random((ROWS, lanes))).astype(np.float32)
    p[1], p[2] = 1, 0
    return p


@pytest.mark.parametrize("lanes", [16, 64, 128])
def test_a_sum_is_exact(lanes):
    p = weights(lanes)
    units = (p + np.float32(1)).astype(np.float64) - 1
    assert_same_bits(summed(p), units.sum(axis=1).astype(np.float32))


def test_the_order_of_lanes_does_not_show():
    p = weights(128)
    assert_same_bits(summed(np.random.default_rng(1).permuted(p, axis=1)), summed(p))


def test_merging_with_nothing_changes_nothing():
    state = np.random.default_rng(2).standard_normal(ROWS * 18, dtype=np.float32)
    out = fresh(state.shape, "float32")
    launch(_merge_kernel, (1,), device(state), out, ROWS=ROWS, D=16, num_warps=4)
    assert_same_bits(host(out), state)

"""exp, log and rounding: meaning against float64, and the same bits from code for another CPU."""

import os
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from detrec.kernels.cpu import portable
from tests.bits import assert_same_bits
from tests.kernels.digests import digests
from tests.kernels.lanes import bfloat16, floats, tree

SMALLEST_NORMAL = 2.0**-126


@njit
def exp_all(x, out):
    for i in range(x.size):
        out[i] = portable.exp32(x[i])


@njit
def log_all(x, out):
    for i in range(x.size):
        out[i] = portable.log32(x[i])


@njit
def silu_all(x, out):
    for i in range(x.size):
        out[i] = portable.silu32(x[i])


@njit
def narrow_all(x, out):
    for i in range(x.size):
        out[i] = portable.narrow(x[i], out)


@njit
def widen_all(x, out):
    for i in range(x.size):
        out[i] = portable.widen(x[i])


def every(low: float, high: float, step: int) -> np.ndarray:
    """Every `step`-th float32 from low to high, both positive, by their bits."""
    first, last = np.array([low, high], np.float32).view(np.uint32)
    return np.arange(first, last, step, dtype=np.uint32).view(np.float32)


def run(kernel, x: np.ndarray) -> np.ndarray:
    out = np.full_like(x, np.nan)
    kernel(x, out)
    return out


def ulps(got: np.ndarray, meant: np.ndarray) -> np.ndarray:
    """The error of float32 `got` in units of the last place of the float64 `meant`."""
    return np.abs(got - meant) / np.ldexp(1.0, np.frexp(meant)[1] - 24)


def test_exp_is_within_one_ulp():
    magnitudes = every(1e-8, 88.72283, 997)
    x = np.concatenate([magnitudes, -magnitudes[magnitudes < 87.33]])
    assert ulps(run(exp_all, x), np.exp(x.astype(np.float64))).max() < 0.95


def test_log_is_within_one_ulp():
    x = np.concatenate([every(SMALLEST_NORMAL, 3.4e38, 7919), every(0.5, 2.0, 97)])
    x = x[x != 1.0]
    assert ulps(run(log_all, x), np.log(x.astype(np.float64))).max() < 0.95


def test_silu_means_x_times_sigmoid():
    x = np.linspace(-80, 80, 40001, dtype=np.float32)
    meant = x / (1 + np.exp(-x.astype(np.float64)))
    error = np.abs(run(silu_all, x) - meant)
    assert (error <= 3e-7 * np.abs(meant)).all()


@pytest.mark.parametrize(
    ("x", "meant"),
    [
        (0.0, 1.0),
        (-0.0, 1.0),
        (np.inf, np.inf),
        (-np.inf, 0.0),
        (88.73, np.inf),
        (-87.34, 0.0),
        (-1e30, 0.0),
        (1e30, np.inf),
    ],
)
def test_exp_at_its_edges(x, meant):
    assert_same_bits(run(exp_all, np.array([x], np.float32)), np.array([meant], np.float32))


def test_exp_never_gives_a_subnormal_number():
    y = run(exp_all, -every(87.3, 88.0, 1))
    assert ((y == 0) | (y >= SMALLEST_NORMAL)).all()
    assert (y == 0).any()
    assert (y > 0).any()


def test_exp_and_log_keep_nan():
    nan = np.full(3, np.nan, np.float32)
    assert np.isnan(run(exp_all, nan)).all()
    assert np.isnan(run(log_all, nan)).all()


def test_log_of_zero_and_one():
    assert_same_bits(run(log_all, np.array([0.0, 1.0], np.float32)), np.array([-np.inf, 0.0], np.float32))


def test_narrow_rounds_to_nearest_even():
    # halfway below an odd and an even neighbour, and a carry into the exponent
    x = np.array([0x3F808000, 0x3F818000, 0x3F80FFFF, 0x3FFFFFFF, 0x80000001, 0x7F800000], np.uint32)
    x = np.concatenate(
        [x.view(np.float32), np.random.default_rng(1).standard_normal(5000).astype(np.float32)]
    )
    out = np.zeros(x.size, np.uint16)
    narrow_all(x, out)
    assert_same_bits(out, bfloat16(x))
    assert out[:2].tolist() == [0x3F80, 0x3F82]


def test_narrow_keeps_nan():
    # rounding these up as integers would give -0 and infinity
    x = np.array([0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    out = np.zeros(2, np.uint16)
    narrow_all(x, out)
    assert np.isnan(floats(out)).all()


def test_narrow_to_float32_changes_nothing():
    x = np.random.default_rng(2).standard_normal(100).astype(np.float32)
    assert_same_bits(run(narrow_all, x), x)


def test_widen_inverts_narrow():
    bits = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    out = np.empty(bits.size, np.float32)
    widen_all(bits, out)
    assert_same_bits(out, floats(bits))


@pytest.mark.parametrize(("columns", "lanes"), [(0, 1), (1, 1), (3, 4), (64, 64), (576, 1024), (49152, 1024)])
def test_lanes_are_a_power_of_two(columns, lanes):
    assert portable.lanes_of(columns) == lanes


def test_tree_sum_halves():
    x = np.random.default_rng(3).standard_normal(256).astype(np.float32)
    assert_same_bits(np.float32(portable.tree_sum(x.copy(), 256)).reshape(1), tree(x).reshape(1))


def test_code_for_a_cpu_without_avx_and_fma_gives_the_same_bits():
    env = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    program = "from tests.kernels.digests import digests; print(*digests().items(), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [str(item) for item in digests().items()]

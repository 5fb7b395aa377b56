"""Matmul: its meaning, its chain, and that a row sees neither its batch, nor the threads, nor the CPU."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from detrec.kernels.cpu.matmul import addmm, bmm, matmul
from detrec.kernels.cpu.matmul_leaves import matmul_leaves
from detrec.kernels.cpu.packed import PANEL, PackedWeight, pack_weight
from detrec.kernels.cpu.split_k import split_k_matmul
from tests.bits import assert_same_bits

ULP = 2.0**-24


def rough(rows: int, columns: int, depth: int, seed: int = 7) -> tuple[np.ndarray, PackedWeight, np.ndarray]:
    """x, weight and bias whose sums depend on the order of additions, so that a changed order shows."""
    rng = np.random.default_rng(seed)
    scale = (10.0 ** (np.arange(depth) % 7 - 3)).astype(np.float32)
    x = rng.standard_normal((rows, depth), np.float32) * scale
    w = rng.standard_normal((columns, depth), np.float32)
    return x, pack_weight(w), rng.standard_normal(columns, np.float32)


def fresh(*shape: int, dtype: type = np.float32) -> np.ndarray:
    """Output memory that shows what was not written: NaN in float32 and in bfloat16."""
    return np.full(shape, np.nan if dtype is np.float32 else 0xFFFF, dtype)


def product(x: np.ndarray, weight: PackedWeight, bias: np.ndarray | None = None) -> np.ndarray:
    return matmul(x, weight, bias, fresh(len(x), weight.shape[0]))


def bf16(array: np.ndarray) -> np.ndarray:
    """float32 rounded to nearest even, as bits."""
    bits = array.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def widened(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def chain(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """One exactly rounded fma at a time.

    The product is exact in float64; the sum is rounded to odd there, so that rounding it again, to float32,
    rounds once (Boldo and Melquiond, 2008).
    """
    total = np.zeros((len(x), len(w)), np.float32)
    for k in range(x.shape[1]):
        p = x[:, k, None].astype(np.float64) * w[None, :, k].astype(np.float64)
        c = total.astype(np.float64)
        s = p + c
        part = s - p
        error = (p - (s - part)) + (c - part)
        even = (s.view(np.uint64) & 1) == 0
        odd = np.nextafter(s, np.copysign(np.inf, error))
        total = np.where((error != 0) & even, odd, s).astype(np.float32)
    return total


# 1 and 4: no vector is full. 63: one ragged panel. 64: two full ones. 203: four at once for one row, and the
# rest. Depth 1 and 37: less than an unrolled step, and a ragged one. 600 x 512: shared among threads.
@pytest.mark.parametrize(
    ("rows", "columns", "depth"),
    [
        (1, 1, 1),
        (3, 4, 37),
        (1, 203, 64),
        (9, 63, 37),
        (8, 64, 128),
        (150, 33, 20),
        (70, 600, 512),
        (1, 600, 512),
    ],
)
def test_means_x_times_w_transposed_plus_bias(rows, columns, depth):
    x, weight, bias = rough(rows, columns, depth)
    x64, w64 = x.astype(np.float64), weight.unpacked().astype(np.float64)
    bound = (depth + 1) * ULP * (abs(x64) @ abs(w64).T + abs(bias)) * 1.01
    assert (abs(product(x, weight, bias) - (x64 @ w64.T + bias)) <= bound).all()


@pytest.mark.parametrize(("rows", "columns", "depth"), [(1, 140, 37), (7, 40, 37), (13, 70, 50)])
def test_an_element_is_one_fma_chain_in_the_order_of_k(rows, columns, depth):
    x, weight, bias = rough(rows, columns, depth)
    expected = chain(x, weight.unpacked())
    assert_same_bits(product(x, weight), expected)
    assert_same_bits(product(x, weight, bias), expected + bias)


@pytest.mark.parametrize(("columns", "depth"), [(70, 37), (320, 577)])
def test_row_does_not_see_its_batch(columns, depth):
    x, weight, bias = rough(100, columns, depth)
    alone = np.concatenate([product(x[r : r + 1], weight, bias) for r in range(len(x))])
    rng = np.random.default_rng(3)
    for rows in range(1, 101):
        chosen = rng.integers(0, 100, rows)
        assert_same_bits(product(x[chosen], weight, bias), alone[chosen])


@pytest.mark.parametrize("splits", [2, 3, 8])
def test_rough_rows_tell_one_order_from_another(splits):
    """Negative control: if this fails, the test above can pass on a kernel that is not invariant."""
    x, weight, bias = rough(4, 70, 577)
    split = split_k_matmul(x, weight, bias, fresh(4, 70), splits)
    assert (abs(split - product(x, weight, bias)) <= 1e-3 * abs(split).max()).all()
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(product(x, weight, bias), split)


def test_one_leaf_is_no_split():
    x, weight, bias = rough(4, 70, 37)
    assert_same_bits(split_k_matmul(x, weight, bias, fresh(4, 70), 1), product(x, weight, bias))


@pytest.mark.parametrize("rows", [1, 9, 200])
def test_thread_count_does_not_move_a_bit(monkeypatch, rows):
    x, weight, bias = rough(rows, 200, 37)
    serial = product(x, weight, bias)
    monkeypatch.setattr("detrec.kernels.cpu.matmul.SERIAL", 0)
    for threads in (1, 2, 3, 16):
        monkeypatch.setattr("detrec.kernels.cpu.matmul.get_num_threads", lambda threads=threads: threads)
        assert_same_bits(product(x, weight, bias), serial)


def digest() -> str:
    """A hash of the bits of two small products, whole and as leaves: the second is shared among threads."""
    total = hashlib.sha256()
    for rows, columns, depth, leaves in ((5, 70, 148, 4), (64, 96, 64, 8)):
        x, weight, bias = rough(rows, columns, depth)
        total.update(product(x, weight, bias).tobytes())
        total.update(matmul_leaves(x, weight, fresh(rows, columns), leaves=leaves).tobytes())
    return total.hexdigest()


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, id="a CPU without AVX or FMA"),
        pytest.param({"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}, id="a CPU with AVX2"),
        pytest.param({"NUMBA_NUM_THREADS": "1"}, id="one thread"),
    ],
)
def test_another_cpu_gives_the_same_bits(environment):
    code = "from tests.kernels.test_matmul import digest; print(digest())"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == digest(), run.stderr


def test_bfloat16_weights_and_rows_are_their_widened_values():
    x, weight, bias = rough(9, 70, 37)
    x16, w16 = bf16(x), bf16(weight.unpacked())
    expected = product(widened(x16), pack_weight(widened(w16)), bias)
    assert_same_bits(product(widened(x16), pack_weight(w16), bias), expected)
    assert_same_bits(product(x16, pack_weight(w16), bias), expected)


def test_bfloat16_output_is_rounded_once_to_nearest_even():
    x, weight, bias = rough(9, 70, 37)
    assert_same_bits(matmul(x, weight, bias, fresh(9, 70, dtype=np.uint16)), bf16(product(x, weight, bias)))


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_nan_and_infinity_stay_in_their_row(dtype):
    x, weight, _ = rough(3, 70, 37)
    # a NaN that rounding up would carry into -0.0
    x[1, 5], x[2, 5] = np.uint32(0x7FFFFFFF).view(np.float32), np.inf
    out = matmul(x, weight, None, fresh(3, 70, dtype=dtype))
    values = out if dtype is np.float32 else widened(out)
    assert np.isfinite(values[0]).all()
    assert np.isnan(values[1]).all()
    assert np.isinf(values[2]).all()


def test_without_a_bias_nothing_is_added():
    """Adding 0.0 would turn the -0.0 that an underflow leaves into 0.0."""
    tiny = np.full((1, 1), 1e-30, np.float32)
    assert np.signbit(product(-tiny, pack_weight(np.repeat(tiny, PANEL, axis=0)))).all()


def test_rows_at_a_stride_are_rows():
    x, weight, bias = rough(9, 70, 37)
    wide, out = np.full((9, 50), np.nan, np.float32), fresh(9, 100)
    wide[:, 3:40] = x
    matmul(wide[:, 3:40], weight, bias, out[:, 10:80])
    assert_same_bits(out[:, 10:80], product(x, weight, bias))
    assert np.isnan(out[:, :10]).all()
    assert np.isnan(out[:, 80:]).all()


def test_a_stack_of_weights_is_one_weight():
    rng = np.random.default_rng(1)
    parts = [rng.standard_normal((n, 37), np.float32) for n in (5, 64, 40)]
    stacked = pack_weight(parts)
    assert stacked.shape == (109, 37)
    assert_same_bits(stacked.unpacked(), np.concatenate(parts))


def test_packed_memory_comes_from_alloc_and_its_margin_is_zero():
    given = []

    def alloc(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        given.append(np.full(shape, np.nan, dtype))
        return given[-1]

    weight = pack_weight(np.ones((PANEL + 1, 3), np.float32), alloc)
    assert weight.panels is given[0]
    assert (weight.panels[1, :, 1:] == 0).all()


def test_addmm_is_matmul_with_its_bias_first():
    x, weight, bias = rough(9, 70, 37)
    assert_same_bits(addmm(bias, x, weight, fresh(9, 70)), product(x, weight, bias))


def test_bmm_is_a_matmul_per_batch():
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((3, 5, 37), np.float32), rng.standard_normal((3, 37, 40), np.float32)
    alone = np.stack([product(a, pack_weight(np.ascontiguousarray(b.T))) for a, b in zip(x, w, strict=True)])
    assert_same_bits(bmm(x, w, fresh(3, 5, 40)), alone)


def test_no_rows():
    assert product(np.empty((0, 37), np.float32), rough(1, 70, 37)[1]).shape == (0, 70)


X, WEIGHT, BIAS = rough(4, 70, 37)


@pytest.mark.parametrize(
    ("x", "bias", "out"),
    [
        pytest.param(X[:, :36], None, fresh(4, 70), id="x of another width"),
        pytest.param(X, None, fresh(4, 69), id="out of another width"),
        pytest.param(X, None, fresh(5, 70), id="out of another height"),
        pytest.param(X, BIAS[:69], fresh(4, 70), id="bias of another width"),
        pytest.param(X, BIAS.astype(np.float64), fresh(4, 70), id="bias of float64"),
        pytest.param(X.astype(np.float64), None, fresh(4, 70), id="x of float64"),
        pytest.param(np.ones((4, 74), np.float32)[:, ::2], None, fresh(4, 70), id="x with gaps in a row"),
    ],
)
def test_rejects(x, bias, out):
    with pytest.raises(ValueError, match="matmul"):
        matmul(x, WEIGHT, bias, out)


def test_pack_rejects_weights_that_do_not_stack():
    with pytest.raises(ValueError, match="differ"):
        pack_weight([np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)])
    with pytest.raises(ValueError, match="float64"):
        pack_weight(np.ones((2, 3)))
    with pytest.raises(ValueError, match="expected"):
        pack_weight([])

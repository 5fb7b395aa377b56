"""Softmax on the GPU: meaning, the CPU kernel's bits, invariance and its control, edges."""

import numpy as np
import pytest

from detrec.kernels.cpu import softmax as cpu
from detrec.kernels.gpu import softmax as module
from detrec.kernels.gpu.softmax import log_softmax, softmax
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host, values

ULP = {"float32": 1e-6, "bfloat16": 2**-7, "float16": 2**-10}
KERNELS = [softmax, log_softmax]


def logits(rows: int, cols: int) -> np.ndarray:
    return np.random.default_rng(8).standard_normal((rows, cols), dtype=np.float32) * 4


def scratch():
    return device(np.zeros(module.SCRATCH, np.int64))


def on_cpu(kernel, x: np.ndarray) -> np.ndarray:
    return getattr(cpu, kernel.__name__)(x, np.empty_like(x))


@pytest.mark.parametrize("kernel", KERNELS)
# 63: ragged. 8192: exactly one pass of the lanes. 17000: two passes and a ragged one.
@pytest.mark.parametrize("cols", [1, 63, 8192, 17000])
@pytest.mark.parametrize("dtype", FLOATS)
def test_means_the_cpu_kernel(dtype, cols, kernel):
    x = floats(logits(3, cols), dtype)
    for to in ("float32", dtype):
        out = values(kernel(x, fresh((3, cols), to)))
        np.testing.assert_allclose(out, on_cpu(kernel, values(x)), rtol=4 * ULP[to], atol=4e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("cols", [1, 63, 8192, 17000, 152064])
@pytest.mark.parametrize("dtype", FLOATS)
def test_has_the_bits_of_the_cpu_kernel(dtype, cols, kernel):
    x = floats(logits(5, cols), dtype)
    expected = on_cpu(kernel, values(x))
    for to in ("float32", dtype):
        assert_same_bits(host(kernel(x, fresh((5, cols), to))), host(floats(expected, to)))


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("kernel", "dtype", "to", "cols"),
    [
        (log_softmax, "float32", "float32", 152064),
        (log_softmax, "bfloat16", "float32", 128256),
        (log_softmax, "bfloat16", "bfloat16", 49152),
        (softmax, "float32", "float32", 49152),
        # wider than programs can hold: one program a row
        (softmax, "float32", "float32", 262144),
        *((kernel, dtype, "float32", 8200) for kernel in KERNELS for dtype in FLOATS),
    ],
)
def test_a_shared_row_has_the_bits_of_the_cpu_kernel(kernel, dtype, to, cols):
    x, zero = floats(logits(5, cols), dtype), scratch()
    out = host(kernel(x, fresh((5, cols), to), zero))
    assert_same_bits(out, host(floats(on_cpu(kernel, values(x)), to)))
    assert not host(zero).any()


@pytest.mark.gpu
@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("parts", [4, 8, 16])
def test_sharing_a_row_moves_no_bit(parts, late, monkeypatch):
    # more rows than groups of programs, and 20000 columns that the last pass of the lanes does not fill
    x = logits(150, 20000)
    expected = host(log_softmax(device(x), fresh((150, 20000), "float32")))
    monkeypatch.setitem(module.PARTS, "float32", parts)
    monkeypatch.setitem(module.LATE, "float32", late)
    zero = scratch()
    for _ in range(3):
        assert_same_bits(host(log_softmax(device(x), fresh((150, 20000), "float32"), zero)), expected)
    wide = device(np.concatenate([x, np.ones((150, 7), np.float32)], axis=1))
    log_softmax(wide[:, :20000], wide[:, :20000], zero)
    assert_same_bits(host(wide)[:, :20000], expected)
    assert (host(wide)[:, 20000:] == 1).all()


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_shared_rows_hide_nothing(dtype, kernel):
    x = logits(6, 20000)
    x[1, 1234], x[2, 19999], x[3, :] = np.nan, np.inf, -np.inf
    x[4, 5000:] = -np.inf
    # so low that exp32 gives numbers next to the smallest normal one, and 0
    x[5, 1:] = np.linspace(-95, -80, 19999)
    x = floats(x, dtype)
    plain = host(kernel(x, fresh((6, 20000), "float32")))
    shared = host(kernel(x, fresh((6, 20000), "float32"), scratch()))
    assert_same_bits(shared, plain)
    assert np.isnan(shared[1:4]).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_row_does_not_see_its_batch(kernel):
    x = device(logits(3, 17000))
    alone = [host(kernel(x[i : i + 1], fresh((1, 17000), "float32"))) for i in range(3)]
    assert_same_bits(host(kernel(x, fresh((3, 17000), "float32"))), np.concatenate(alone))


def test_these_rows_tell_one_order_from_another(monkeypatch):
    """Negative control: if this fails, the tests above can pass on a kernel of another order."""
    x = device(logits(16, 17000))
    before = host(log_softmax(x, fresh((16, 17000), "float32")))
    monkeypatch.setattr(module, "LANES", 1024)
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(host(log_softmax(x, fresh((16, 17000), "float32"))), before)


def test_rows_may_be_slices_of_wider_ones_and_may_be_written_in_place():
    x = logits(4, 300)
    wide = device(x)
    log_softmax(wide[:, 50:250], wide[:, 50:250])
    expected = x.copy()
    expected[:, 50:250] = host(log_softmax(device(x[:, 50:250]), fresh((4, 200), "float32")))
    assert_same_bits(host(wide), expected)


def test_a_banned_token_stays_banned_and_moves_nothing_else():
    x = logits(1, 4)
    x[0, 2] = -np.inf
    y = host(log_softmax(device(x), fresh((1, 4), "float32")))
    assert y[0, 2] == -np.inf
    assert abs(np.exp(y.astype(np.float64)).sum() - 1) < 1e-6


# the interpreter is numpy, which warns of inf - inf
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_not_hidden(value):
    x = logits(2, 2500)
    x[0, 1234] = value
    y = host(log_softmax(device(x), fresh((2, 2500), "float32")))
    assert np.isnan(y[0, 1234])
    assert np.isfinite(y[1]).all()


def test_rejects_scratch_of_another_shape(monkeypatch):
    monkeypatch.setattr(module, "INTERPRETED", False)
    x = fresh((2, 17000), "float32")
    with pytest.raises(ValueError, match=r"log_softmax: scratch is int64 \[5\], expected int64"):
        log_softmax(x, x, fresh((5,), "int64"))


def test_no_rows():
    assert values(log_softmax(fresh((0, 9), "float32"), fresh((0, 9), "float32"))).shape == (0, 9)


def test_rejects_out_of_another_shape():
    with pytest.raises(ValueError, match="log_softmax: x has shape"):
        log_softmax(fresh((2, 9), "float32"), fresh((2, 8), "float32"))


def test_rejects_out_of_another_dtype():
    with pytest.raises(ValueError, match="softmax: out is float16, expected float32 or x's bfloat16"):
        softmax(fresh((2, 9), "bfloat16"), fresh((2, 9), "float16"))

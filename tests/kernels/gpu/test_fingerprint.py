"""Fingerprints on the GPU: those of the CPU kernel for every dtype, width and alignment."""

import numpy as np
import pytest

from detrec.kernels.cpu.fingerprint import reference
from detrec.kernels.gpu import fingerprint as module
from detrec.kernels.gpu.fingerprint import DTYPE_CODES, fingerprint
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import device, fresh, host


def rand(rows: int, cols: int, dtype: str) -> np.ndarray:
    """Any bits, as the numpy type that stores `dtype`."""
    kind = np.dtype(np.uint16 if dtype == "bfloat16" else dtype)
    data = np.random.default_rng(6).integers(0, 256, rows * cols * kind.itemsize, np.uint8)
    return data.view(kind).reshape(rows, cols)


def hashed(x) -> np.ndarray:
    return host(fingerprint(x, fresh((len(x),), "uint64")))


@pytest.mark.parametrize("dtype", DTYPE_CODES)
# 63: a ragged word. 1024: whole words. 4100: tiles and a ragged one, for every dtype.
@pytest.mark.parametrize("cols", [0, 1, 2, 3, 63, 1024, 4100])
def test_is_the_fingerprint_of_the_cpu(cols, dtype):
    x = rand(5, cols, dtype)
    assert_same_bits(hashed(device(x)), reference(x, dtype))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPE_CODES)
@pytest.mark.parametrize("cols", [512, 896, 3584, 18944, 32768, 152064])
def test_is_the_fingerprint_of_the_cpu_for_rows_of_models(cols, dtype):
    x = rand(65, cols, dtype)
    assert_same_bits(hashed(device(x)), reference(x, dtype))


@pytest.mark.parametrize("dtype", DTYPE_CODES)
@pytest.mark.parametrize("first", [0, 1, 2, 3, 4, 8])
def test_a_row_may_start_at_any_element(first, dtype):
    x = rand(5, 75, dtype)
    assert_same_bits(hashed(device(x)[:, first : first + 64]), reference(x[:, first : first + 64], dtype))


def test_one_row_may_start_at_any_element_whatever_its_stride():
    x = rand(2, 75, "bfloat16")
    assert_same_bits(hashed(device(x)[1:, 1:65]), reference(x[1:, 1:65], "bfloat16"))


def test_no_constant_of_the_file_moves_a_bit(monkeypatch):
    x = device(rand(9, 700, "bfloat16"))
    before = hashed(x)
    for name, value in (("WARP_WORDS", 64), ("MOST_WARPS", 1), ("WARPS", 1)):
        monkeypatch.setattr(module, name, value)
        assert_same_bits(hashed(x), before)


def test_every_bit_counts_and_so_do_places_dtype_and_width():
    x = rand(1, 8, "float32")
    changed = [x.copy() for _ in range(256)]
    for bit, row in enumerate(changed):
        row.view(np.uint8)[0, bit // 8] ^= 1 << (bit % 8)
    rows = np.concatenate([x, x[:, ::-1], *changed])
    kinds = [hashed(device(rows)), hashed(device(x)[:, :7]), hashed(device(x).view("int32").view("float32"))]
    assert len(np.unique(np.concatenate(kinds[:2]))) == 259
    assert_same_bits(kinds[2], kinds[0][:1])


def test_zero_is_no_row():
    # the one word of 64 bits that hashes to 0: found by inverting the mix, which is a bijection
    everything, width = (1 << 64) - 1, 1
    gamma, mix1, mix2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * mix1) & everything
        x = ((x ^ (x >> 27)) * mix2) & everything
        return x ^ (x >> 31)

    word = (-gamma & everything) ^ mix((DTYPE_CODES["int64"] << 32) + width)
    x = np.array([[word]], np.uint64).view(np.int64)
    assert hashed(device(x)).tolist() == [1]
    assert reference(x, "int64").tolist() == [1]


def test_no_rows():
    assert hashed(fresh((0, 9), "float32")).shape == (0,)


def test_rejects_a_dtype_without_a_code():
    with pytest.raises(ValueError, match=r"fingerprint: x is int32 \[2, 3\]"):
        hashed(fresh((2, 3), "int32"))


def test_rejects_out_of_another_size():
    with pytest.raises(ValueError, match=r"fingerprint: out is uint64 \[3\]"):
        fingerprint(fresh((2, 3), "float32"), fresh((3,), "uint64"))

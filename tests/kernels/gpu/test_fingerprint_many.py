"""Fingerprints of many arrays at once are those of each by itself, by a launch's arguments or by a table."""

import numpy as np
import pytest

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu import fingerprint_many as module
from detrec.kernels.gpu.fingerprint_many import SLOTS, fingerprint_table, fingerprints, fingerprints_of
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import device, fresh, host
from tests.kernels.gpu.test_fingerprint import hashed, rand

MANY = [("float32", 12), ("bfloat16", 256), ("float16", 2052), ("int64", 3), ("bfloat16", 8)]


# 1: rows at any multiple of 2 bytes. 2: of 4. 4: of 8. 8: of 16.
@pytest.mark.parametrize("step", [1, 2, 4, 8])
def test_many_at_once_are_those_one_by_one(step):
    parts = [device(rand(3, cols + step, dtype))[:, step:] for dtype, cols in MANY]
    out = host(fingerprints(parts, fresh((len(MANY), 3), "uint64")))
    assert_same_bits(out, np.stack([hashed(part) for part in parts]))


def test_more_than_one_launch_carries():
    x = device(rand(2, SLOTS * 4 + 12, "bfloat16"))
    parts = [x[:, 4 * i : 4 * i + 4] for i in range(SLOTS + 3)]
    out = host(fingerprints(parts, fresh((len(parts), 2), "uint64")))
    assert_same_bits(out, np.stack([hashed(part) for part in parts]))


def test_many_into_a_slice_of_wider_rows():
    x, wide = device(rand(3, 64, "float32")), fresh((4, 10), "uint64")
    fingerprints([x, x[:, :32]], wide[1:3, 5:8])
    expected = np.full((4, 10), (1 << 64) - 1, np.uint64)
    expected[1, 5:8], expected[2, 5:8] = hashed(x), hashed(x[:, :32])
    assert_same_bits(host(wide), expected)


@pytest.mark.parametrize("constants", [{}, {"FEW": 0}, {"CROWD": 0}, {"NARROW": 0}], ids=str)
@pytest.mark.parametrize("step", [1, 8])
def test_by_a_table_they_are_the_same(step, constants, monkeypatch):
    for name, value in constants.items():
        monkeypatch.setattr(module, name, value)
    # more than the arguments of a launch carry, and places that nothing fills
    parts = [device(rand(3, cols + step, dtype))[:, step:] for dtype, cols in MANY * 5]
    table = fingerprint_table([(2 * place, part) for place, part in enumerate(parts)])
    out = host(fingerprints_of(table, device(table.entries), fresh((2 * len(parts), 3), "uint64")))
    assert_same_bits(out[::2], np.stack([hashed(part) for part in parts]))
    assert (out[1::2] == (1 << 64) - 1).all()


@pytest.mark.parametrize("step", [1, 4, 8])
def test_a_table_moves_with_its_arrays(step):
    """To memory that is aligned less than the table was made for, too."""
    parts = [device(rand(3, cols + 8, dtype))[:, step : step + cols] for dtype, cols in MANY]
    alike = [DeviceArray(16 * n, part.dtype, part.shape, part.strides) for n, part in enumerate(parts)]
    table = fingerprint_table([*enumerate(alike)])
    whose = np.argsort(table.entries[:, 0])
    moved = table.moved(np.array([part.address for part in parts]), whose)
    out = host(fingerprints_of(moved, device(moved.entries), fresh((len(parts), 3), "uint64")))
    assert_same_bits(out, np.stack([hashed(part) for part in parts]))


def test_no_rows():
    assert host(fingerprints([fresh((0, 9), "float32")], fresh((1, 0), "uint64"))).shape == (1, 0)


def test_rejects_arrays_of_other_rows():
    x = fresh((2, 3), "float32")
    with pytest.raises(ValueError, match=r"fingerprints: array 1 is float32 \[1, 3\], expected \[2, width\]"):
        fingerprints([x, x[:1]], fresh((2, 2), "uint64"))
    # which a second launch reads
    with pytest.raises(ValueError, match=f"fingerprints: array {SLOTS} is"):
        fingerprints([x] * SLOTS + [x[:1]], fresh((SLOTS + 1, 2), "uint64"))

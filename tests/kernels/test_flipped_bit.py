"""One flipped bit is found by the digests of before and after."""

import numpy as np
import pytest

from detrec.kernels.cpu.fingerprint import fingerprint
from detrec.kernels.cpu.flipped_bit import byte_digest, flipped_bit


def data(size: int) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, size).astype(np.uint8)


# 8: one word. 1003: whole words and three bytes. 3: less than a word.
@pytest.mark.parametrize("size", [3, 8, 1003, 100_000])
def test_every_kind_of_bit_is_found(size):
    before = data(size)
    digest = byte_digest(before)
    for bit in {0, 7, 8 * size - 1, 8 * (size // 2) + 5, 8 * (size - size % 8) % (8 * size)}:
        after = before.copy()
        after[bit // 8] ^= 1 << bit % 8
        assert byte_digest(after) != digest
        assert flipped_bit(after, digest) == bit


def test_two_bits_are_not_one():
    before = data(4096)
    after = before.copy()
    after[[17, 3000]] ^= 64
    assert flipped_bit(after, byte_digest(before)) is None
    assert flipped_bit(before, byte_digest(before)) is None


def test_the_digest_is_the_fingerprint_of_one_row():
    words = data(800).view(np.int64).reshape(1, -1)
    # the salt holds the width, which is counted in bytes here
    assert byte_digest(data(800)) != int(fingerprint(words, np.empty(1, np.uint64))[0])
    assert byte_digest(data(800)) == byte_digest(data(800).copy())


def test_nothing_has_no_bit_to_flip():
    assert flipped_bit(data(0), 5) is None

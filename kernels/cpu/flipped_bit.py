"""A digest of bytes from which one flipped bit can be found again.

The digest is the fingerprint of the bytes as one row: a sum over its words, mod 2^64. Where two digests of
one length differ by exactly what one word would add and take away with one of its bits turned, that bit was
turned: of 64 bits a word, about n / 2^61 of n words would pass by chance.
"""

import numpy as np
from numba import get_num_threads, prange

from detrec.kernels.cpu.compiling import compiled, shared
from detrec.kernels.cpu.fingerprint import DTYPE_CODES, GAMMA, _byte_at, _mix, _row, _word_at, salt

_ONE = np.uint64(1)
_CODE = DTYPE_CODES["int64"]


@compiled
def _digest(data: np.ndarray) -> np.uint64:
    return _row(data.ctypes.data, data.size, np.uint64(salt(_CODE, data.size)))


def byte_digest(data: np.ndarray) -> int:
    """The digest of uint8 [n], contiguous: 64 bits, never 0."""
    return int(_digest(data))


@compiled
def _turned(word: np.uint64, step: np.uint64, bits: int, wanted: np.uint64) -> int:
    """Which of the first `bits` bits of a word, turned, adds `wanted`; -1 for none."""
    here = _mix(word + step)
    for bit in range(bits):
        if _mix((word ^ (_ONE << np.uint64(bit))) + step) - here == wanted:
            return bit
    return -1


@shared
def _search(data: np.ndarray, wanted: np.uint64, found: np.ndarray) -> None:
    address, words, threads = data.ctypes.data, data.size >> 3, found.size
    mark = np.uint64(salt(_CODE, data.size))
    for thread in prange(threads):
        for word in range(words * thread // threads, words * (thread + 1) // threads):
            step = np.uint64(word + 1) * GAMMA
            # turning a bit before the salt or after it is the same
            bit = _turned(_word_at(address, word) ^ mark, step, 64, wanted)
            if bit >= 0:
                found[thread] = 64 * word + bit
    if data.size & 7:
        last = np.uint64(0)
        for byte in range(data.size & 7):
            last |= _byte_at(address, (words << 3) + byte) << np.uint64(8 * byte)
        bit = _turned(last ^ mark, np.uint64(words + 1) * GAMMA, 8 * (data.size & 7), wanted)
        if bit >= 0:
            found[0] = 64 * words + bit


def flipped_bit(data: np.ndarray, digest: int) -> int | None:
    """The bit of uint8 [n] to turn for it to have `digest`, as byte * 8 + bit; None: no single one."""
    found = np.full(get_num_threads(), -1, np.int64)
    _search(data, np.uint64((digest - byte_digest(data)) & ((1 << 64) - 1)), found)
    place = int(found.max(initial=-1))
    return place if place >= 0 else None

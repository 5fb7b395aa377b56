"""Keys and values into the paged cache, and what is then read back from it: every slot by itself."""

import numpy as np

from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.cpu.portable import narrow, widen
from detrec.kernels.cpu.rows import expect_rows, row_of

KERNEL = "cpu.kv_write copy"
"""Names the kernel and all of its configuration that could move a bit."""


@compiled
def _kv_write(k: np.ndarray, v: np.ndarray, cache: np.ndarray, slots: np.ndarray, out: np.ndarray) -> int:
    """The first row whose slot the cache lacks, nothing written, or -1."""
    block_size, width = cache.shape[1], cache.shape[3]
    for row in range(slots.size):
        if slots[row] < 0 or slots[row] >= cache.shape[0] * block_size:
            return row
    for row in range(slots.size):
        stored = cache[slots[row] // block_size, slots[row] % block_size]
        ks, vs, keys, values = row_of(k, row), row_of(v, row), row_of(stored, 0), row_of(stored, 1)
        for i in range(width):
            keys[i] = narrow(widen(ks[i]), cache)
        for i in range(width):
            values[i] = narrow(widen(vs[i]), cache)
    # after the last write: two rows that were given one slot both show what it holds now
    for row in range(slots.size):
        stored, line = cache[slots[row] // block_size, slots[row] % block_size], row_of(out, row)
        keys, values = row_of(stored, 0), row_of(stored, 1)
        for i in range(width):
            line[i] = narrow(widen(keys[i]), out)
        for i in range(width):
            line[width + i] = narrow(widen(values[i]), out)
    return -1


def kv_write(
    k: np.ndarray, v: np.ndarray, cache: np.ndarray, slots: np.ndarray, out: np.ndarray
) -> np.ndarray:
    """Store k and v at `slots` of the cache; gives `out`, the keys and then the values read back from there.

    k and v [R, KV], rows contiguous and at any stride; cache [blocks, block_size, 2, KV], contiguous; slots
    int64 [R], block * block_size + offset; out [R, 2*KV]. Each float32 or uint16 (bfloat16 bits). ValueError,
    and nothing written, where shapes do not fit or the cache has no such slot.
    """
    for name, x in (("k", k), ("v", v), ("out", out)):
        expect_rows("kv_write", name, x)
    if cache.ndim != 4 or cache.shape[2] != 2 or not cache.flags.c_contiguous:
        raise ValueError(
            f"kv_write: cache has shape {list(cache.shape)} and strides {cache.strides}, "
            "expected contiguous [blocks, block_size, 2, KV]"
        )
    rows, width = k.shape
    if v.shape != k.shape or cache.shape[3] != width or out.shape != (rows, 2 * width):
        raise ValueError(
            f"kv_write: k {list(k.shape)}, v {list(v.shape)}, cache {list(cache.shape)} and out "
            f"{list(out.shape)} do not fit, "
            "expected [R, KV], [R, KV], [blocks, block_size, 2, KV] and [R, 2*KV]"
        )
    if slots.dtype != np.int64 or slots.shape != (rows,):
        raise ValueError(f"kv_write: slots are {slots.dtype} {list(slots.shape)}, expected int64 [{rows}]")
    wrong = _kv_write(k, v, cache, slots, out)
    if wrong >= 0:
        raise ValueError(
            f"kv_write: row {wrong} has slot {slots[wrong]}, the cache has {cache.shape[0] * cache.shape[1]}"
        )
    return out

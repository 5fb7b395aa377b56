"""Weights made from a seed: element i depends on the key and on i alone, and has the same bits everywhere.

splitmix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014): integers, one
exact conversion to float32, one float32 product and one float32 sum. Each 64-bit draw gives two elements.
"""

import numpy as np
from numba import get_num_threads, prange

from detrec.kernels.cpu.compiling import compiled, shared
from detrec.kernels.cpu.draw import GOLDEN, LOW_32, U32, mix
from detrec.kernels.cpu.portable import ZERO, narrow


@compiled
def _element(half: np.uint64, scale: np.float32, centre: np.float32) -> np.float32:
    # the top 25 bits, the lowest of them set: odd, so exact in float32 and never 0
    value = np.float32(np.int32(np.int32(np.uint32(half)) >> np.int32(7)) | np.int32(1)) * scale
    return value + centre if centre != ZERO else value


@compiled
def _draw(
    state: np.uint64, scale: np.float32, centre: np.float32, out: np.ndarray, first: int, last: int
) -> None:
    for pair in range(first, last):
        draw = mix(state + np.uint64(pair + 1) * GOLDEN)
        out[2 * pair] = narrow(_element(draw & LOW_32, scale, centre), out)
        if 2 * pair + 1 < out.size:
            out[2 * pair + 1] = narrow(_element(draw >> U32, scale, centre), out)


@shared
def _shared(state: np.uint64, scale: np.float32, centre: np.float32, out: np.ndarray, threads: int) -> None:
    pairs = (out.size + 1) // 2
    for thread in prange(threads):
        _draw(state, scale, centre, out, pairs * thread // threads, pairs * (thread + 1) // threads)


def fill_uniform(state: int, bound: float, centre: float, out: np.ndarray) -> np.ndarray:
    """Fill `out` with centre plus odd multiples of bound * 2^-24 in (-bound, bound); gives `out`.

    `state` is the generator's, 64 bits; out [n], contiguous, float32 or uint16 (bfloat16 bits, rounded to
    nearest even).
    """
    if out.ndim != 1 or not out.flags.c_contiguous or out.dtype.char not in "fH":
        raise ValueError(
            f"fill_uniform: out is {out.dtype} {list(out.shape)}, expected contiguous float32 or uint16 [n]"
        )
    scale = np.float32(bound * 2.0**-24)
    _shared(np.uint64(state), scale, np.float32(centre), out, get_num_threads())
    return out

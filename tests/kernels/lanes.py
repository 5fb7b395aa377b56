"""The reduction order that kernels/cpu promises, in numpy, and rows that tell one order from another."""

import numpy as np


def rough(rows: int, columns: int, seed: int = 7) -> np.ndarray:
    """Rows whose sum depends on the order of additions, so that a changed order shows in the bits."""
    x = np.random.default_rng(seed).standard_normal((rows, columns))
    return (x * 10.0 ** (np.arange(columns) % 7 - 3)).astype(np.float32)


def lanes_for(columns: int, most: int = 1024) -> int:
    """The next power of two, at most `most`."""
    return min(most, 1 << max(columns - 1, 0).bit_length())


def tree(lanes: np.ndarray) -> np.float32:
    """lanes[i] += lanes[i + half] for half = n/2, ..., 1."""
    while lanes.size > 1:
        half = lanes.size // 2
        lanes = lanes[:half] + lanes[half:]
    return lanes[0]


def lane_sum(values: np.ndarray, most: int = 1024) -> np.float32:
    """The sum of float32 values by at most `most` lanes, then the tree."""
    lanes = np.zeros(lanes_for(values.size, most), np.float32)
    for start in range(0, values.size, lanes.size):
        part = values[start : start + lanes.size]
        lanes[: part.size] += part
    return tree(lanes)


def bfloat16(x: np.ndarray) -> np.ndarray:
    """float32 as bfloat16 bits, to nearest even, by integers alone."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def floats(bits: np.ndarray) -> np.ndarray:
    """bfloat16 bits as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)

"""What ranks have and what their sum is on the host: the reference of tests of DeviceGroup."""

import numpy as np

from detrec.engines.builtin.bfloat16 import narrowed, widened


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """float32 as `dtype` is stored."""
    return narrowed(values) if dtype == "bfloat16" else values.astype(dtype)


def read(stored: np.ndarray) -> np.ndarray:
    """What is stored, as float32."""
    return widened(stored) if stored.dtype == np.uint16 else stored.astype(np.float32)


def parts_of(seed: int, shape: tuple[int, ...], dtype: str, world: int) -> list[np.ndarray]:
    """What each rank has, such that the order shows: large values that cancel small ones out, or not."""
    draws = np.random.default_rng(seed)
    parts = draws.standard_normal((world, *shape)) * 10.0 ** draws.integers(-3, 3, (world, *shape))
    parts[draws.random(parts.shape) < 0.02] = -0.0
    large = np.where(draws.random(shape) < 0.5, 30_000.0 if dtype == "float16" else 1e9, 0.0)
    plus = draws.integers(world, size=shape)
    minus = (plus + 1 + draws.integers(world - 1, size=shape)) % world
    for rank, part in enumerate(parts):
        part += large * (plus == rank) - large * (minus == rank)
    return [rounded(part.astype(np.float32), dtype) for part in parts]


def summed(parts: list[np.ndarray], order: str, dtype: str) -> np.ndarray:
    """The sum in float32 in that order, rounded once."""
    values = [read(part) for part in parts]
    if order == "tree":
        while len(values) > 1:
            pairs = [left + right for left, right in zip(values[::2], values[1::2], strict=False)]
            values = pairs + values[2 * len(pairs) :]
        return rounded(values[0], dtype)
    total = values[0]
    for value in values[1:]:
        total = total + value
    return rounded(total, dtype)


def differing(left: np.ndarray, right: np.ndarray) -> int:
    """How many elements differ in bits."""
    unsigned = f"u{left.dtype.itemsize}"
    return int((left.reshape(-1).view(unsigned) != right.reshape(-1).view(unsigned)).sum())

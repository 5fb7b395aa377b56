"""The one equality that determinism tests use: the same bits, NaN included."""

import numpy as np


def assert_same_bits(left: np.ndarray, right: np.ndarray) -> None:
    """Fail unless shape, dtype and bits agree; say how many elements differ and which is first."""
    assert left.shape == right.shape, f"shapes differ: {left.shape} and {right.shape}"
    assert left.dtype == right.dtype, f"dtypes differ: {left.dtype} and {right.dtype}"
    unsigned = np.dtype(f"u{left.dtype.itemsize}")
    a, b = np.ascontiguousarray(left).view(unsigned), np.ascontiguousarray(right).view(unsigned)
    places = np.argwhere(a != b)
    if len(places):
        first = tuple(int(i) for i in places[0])
        raise AssertionError(
            f"{len(places)} of {a.size} elements differ in bits, "
            f"first at {first}: {left[first]!r} and {right[first]!r}"
        )

"""How two outputs of one op differ: elements, units of the last place, bits, and where in a row.

Pure: arrays in, a Difference out.
"""

from collections.abc import Sequence

import numpy as np

from detrec.engines.builtin.bfloat16 import widened
from detrec.replayer.arguments import bits
from detrec.replayer.findings import Difference


def difference(recorded: np.ndarray, replayed: np.ndarray, *, head: int = 0) -> Difference | None:
    """Compare [rows, width] of float32 or uint16 (bfloat16 bits), or [rows] of records.

    `head` is the width of a head, 0 where a row has none. None where shapes or dtypes are not the same.
    """
    if recorded.shape != replayed.shape or recorded.dtype != replayed.dtype:
        return None
    if recorded.dtype.names is not None:
        return _of_records(recorded, replayed)
    differ = bits(recorded) != bits(replayed)
    columns = np.flatnonzero(differ.any(axis=0))
    ours, theirs = recorded[differ], replayed[differ]
    return Difference(
        elements=int(differ.sum()),
        size=differ.size,
        rows=int(differ.any(axis=1).sum()),
        max_ulp=int(ulp_distance(ours, theirs).max(initial=0)),
        flipped_bits=int(np.bitwise_count(bits(ours) ^ bits(theirs)).sum()),
        pattern=pattern(columns, differ.shape[1], elements=int(differ.sum()), head=head),
        finite=bool(_finite(ours).all() and _finite(theirs).all()),
    )


def ulp_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How many representable numbers lie between two of one dtype, int64; 0 where either is NaN.

    float32, or uint16 (bfloat16 bits). 0.0 and -0.0 are one number; infinity follows the largest.
    """
    distance = np.abs(_ranked(a) - _ranked(b))
    distance[np.isnan(_values(a)) | np.isnan(_values(b))] = 0
    return distance


def pattern(columns: np.ndarray, width: int, *, elements: int, head: int = 0) -> str:
    """Where the `columns` that differ lie in a row of `width`; `elements` differ in all rows together."""
    if not len(columns):
        return "nothing"
    first, last = int(columns[0]), int(columns[-1])
    if elements == 1:
        return "one element"
    if head and head < width and first // head == last // head:
        return f"head {first // head}"
    if len(columns) == width:
        return "every column"
    if first == last:
        return f"column {first}"
    # a stretch that is mostly hit and far from all is a tile
    span = last - first + 1
    if 2 * span <= width and 2 * len(columns) >= span:
        return f"columns {first} to {last}"
    return f"{len(columns)} of {width} columns"


def _of_records(recorded: np.ndarray, replayed: np.ndarray) -> Difference:
    """Fields are the elements; distance and finiteness are those of the fields that are floats."""
    names: Sequence[str] = recorded.dtype.names or ()
    flags = np.stack([bits(recorded[name]) != bits(replayed[name]) for name in names], axis=1)
    floats = [name for name in names if recorded.dtype[name] == np.float32]
    sides = [np.concatenate([side[name] for name in floats]) for side in (recorded, replayed)]
    changed = bits(sides[0]) != bits(sides[1])
    ours, theirs = sides[0][changed], sides[1][changed]
    flipped = sum(int(np.bitwise_count(bits(recorded[n]) ^ bits(replayed[n])).sum()) for n in names)
    return Difference(
        elements=int(flags.sum()),
        size=flags.size,
        rows=int(flags.any(axis=1).sum()),
        max_ulp=int(ulp_distance(ours, theirs).max(initial=0)),
        flipped_bits=flipped,
        pattern=", ".join(names[at] for at in np.flatnonzero(flags.any(axis=0)).tolist()) or "nothing",
        finite=bool(np.isfinite(ours).all() and np.isfinite(theirs).all()),
    )


def _values(array: np.ndarray) -> np.ndarray:
    return widened(array) if array.dtype == np.uint16 else array


def _finite(array: np.ndarray) -> np.ndarray:
    return (
        np.isfinite(_values(array)) if array.dtype in (np.uint16, np.float32) else np.ones(array.shape, bool)
    )


def _ranked(array: np.ndarray) -> np.ndarray:
    """Sign and magnitude as one line of integers, in which neighbours are neighbouring numbers."""
    width = 8 * array.dtype.itemsize
    word = bits(array).astype(np.int64)
    magnitude = word & ((1 << (width - 1)) - 1)
    return np.where(word >> (width - 1), -magnitude, magnitude)

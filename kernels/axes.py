"""Which axes of an array a mean is over, and what is left of its shape."""

from collections.abc import Sequence
from math import prod


def mean_axes(
    shape: Sequence[int], axis: int | tuple[int, ...] | None
) -> tuple[list[int], list[int], tuple[int, ...], int]:
    """Axes that are kept, axes that are reduced (all, where `axis` is None), and their extents:
    the shape of what is kept, and how many elements are reduced to one.

    ValueError where `axis` names none or one twice, and where there are no elements to take the mean of.
    """
    axes = range(len(shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
    reduced = sorted(a + len(shape) if a < 0 else a for a in axes)
    if len(set(reduced)) < len(reduced) or any(not 0 <= a < len(shape) for a in reduced):
        raise ValueError(f"mean: axis {axis} of an array of {len(shape)} dimensions")
    elements = prod(shape[a] for a in reduced)
    if not elements:
        raise ValueError(f"mean: axis {axis} of shape {list(shape)} holds no elements")
    kept = [a for a in range(len(shape)) if a not in reduced]
    return kept, reduced, tuple(shape[a] for a in kept), elements

"""Sums over the ranks of one host, through memory that they share.

Invariant: an element is the sum over ranks in a fixed order (`kernels.group.ORDERS`), in float32, from rank
0's value on, rounded once. A short message is summed whole by every rank; of a long one each rank sums a part
and takes the others' parts: the same additions, done by somebody else. So neither the length of a message,
nor an element's place, nor who came first can move a bit.
"""

import numpy as np

from detrec.kernels.cpu.atomics import reached, store
from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.cpu.portable import narrow, widen

LINE = 8
"""Words between two ranks' counters, so that each has a line of the cache to itself."""

NAPS = 40
"""How often a wait sleeps before it goes back to Python, which looks who is still alive."""

_CHUNK = 1024


def kernel(order: str, world_size: int) -> str:
    """Names the kernel and all of its configuration that could move a bit."""
    return f"cpu.all_reduce {order} of {world_size}"


@compiled
def announce(counters: np.ndarray, rank: int, generation: int) -> None:
    """Say that `rank` is as far as `generation`, and what it stored before can be read."""
    store(counters, rank * LINE, generation)


@compiled
def put(x: np.ndarray, slots: np.ndarray, half: int, rank: int) -> None:
    """Copy x [n] to where the others read what `rank` gives."""
    mine = slots[half, rank]
    for i in range(x.size):
        mine[i] = x[i]


@compiled
def _in_turn(slots: np.ndarray, half: int, turns: np.ndarray, first: int, last: int, out: np.ndarray) -> None:
    """out[first:last], ranks added in the order of `turns`."""
    sums = np.empty(_CHUNK, np.float32)
    for start in range(first, last, _CHUNK):
        count = min(_CHUNK, last - start)
        values = slots[half, turns[0]]
        for i in range(count):
            sums[i] = widen(values[start + i])
        for turn in range(1, turns.size):
            values = slots[half, turns[turn]]
            for i in range(count):
                sums[i] += widen(values[start + i])
        for i in range(count):
            out[start + i] = narrow(sums[i], out)


@compiled
def _in_tree(slots: np.ndarray, half: int, world: int, first: int, last: int, out: np.ndarray) -> None:
    """out[first:last], ranks added pairwise; world is 1, 2, 4 or 8."""
    sums = np.empty((8, _CHUNK), np.float32)
    for start in range(first, last, _CHUNK):
        count = min(_CHUNK, last - start)
        for rank in range(world):
            values, wide = slots[half, rank], sums[rank]
            for i in range(count):
                wide[i] = widen(values[start + i])
        step = 1
        while step < world:
            for rank in range(0, world, 2 * step):
                left, right = sums[rank], sums[rank + step]
                for i in range(count):
                    left[i] += right[i]
            step *= 2
        for i in range(count):
            out[start + i] = narrow(sums[0, i], out)


@compiled
def add_up(
    slots: np.ndarray, half: int, turns: np.ndarray, tree: bool, first: int, last: int, out: np.ndarray
) -> None:
    """out[first:last], ranks added in the order of `turns`, or pairwise."""
    if tree:
        _in_tree(slots, half, turns.size, first, last, out)
    else:
        _in_turn(slots, half, turns, first, last, out)


@compiled
def one_stage(
    x: np.ndarray, slots: np.ndarray, half: int, rank: int, turns: np.ndarray, tree: bool,
    counters: np.ndarray, generation: int, spins: int, out: np.ndarray,
) -> bool:  # fmt: skip
    """The whole message, if the others come soon; False: they have not come yet, and nothing is in `out`."""
    put(x, slots, half, rank)
    store(counters, rank * LINE, generation)
    if not reached(counters, 0, LINE, turns.size, generation, spins, NAPS):
        return False
    add_up(slots, half, turns, tree, 0, x.size, out)
    return True


@compiled
def side_by_side(slots: np.ndarray, half: int, width: int, out: np.ndarray) -> None:
    """Ranks' [rows, width] side by side, as far as `out` has columns."""
    for row in range(out.shape[0]):
        for column in range(0, out.shape[1], width):
            values = slots[half, column // width]
            for i in range(min(width, out.shape[1] - column)):
                out[row, column + i] = values[row * width + i]

"""One tile of attention: some rows of a sequence, with the heads that share one head of KV.

A line is one head of one row, and the lines of a tile share nothing but the transposed keys. `attention.py`
says what a line computes.
"""

from typing import NamedTuple

import numpy as np

from detrec.kernels.cpu.attention_chains import SIDE, accumulate, prefetch, transpose_keys
from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.cpu.portable import INF, ONE, ZERO, exp32, narrow, select, tree_sum, widen
from detrec.kernels.cpu.rows import row_of

# part of the result: to change it is to change bits, and to bump KERNELS_VERSION
KV_BLOCK = 64

# lines whose chains run side by side
ABREAST = 4


class Pages(NamedTuple):
    """Where one sequence's head of KV lies: flat cache, blocks by place, elements a position, columns."""

    cache: np.ndarray
    table: np.ndarray
    block_size: int
    stride: int
    keys: int
    values: int


class Lines(NamedTuple):
    """A tile's lines: last position seen; q, acc [lines, D]; s [lines, KV_BLOCK]; m, l (`total`), alpha."""

    last: np.ndarray
    q: np.ndarray
    acc: np.ndarray
    s: np.ndarray
    m: np.ndarray
    total: np.ndarray
    alpha: np.ndarray


@compiled
def _scratch(size: int) -> np.ndarray:
    """Memory that begins on a cache line."""
    raw = np.empty(size + 16, np.float32)
    start = (-(raw.ctypes.data >> 2)) & 15
    return raw[start : start + size]


@compiled
def _place(pages: Pages, position: int) -> int:
    """Where in the cache a position begins."""
    block, offset = divmod(position, pages.block_size)
    return (pages.table[block] * pages.block_size + offset) * pages.stride


@compiled
def _ask(pages: Pages, first: int, count: int, depth: int) -> None:
    """Prefetch `depth` elements of `count` positions."""
    for i in range(count):
        prefetch(pages.cache, first + i * pages.stride, depth)


@compiled
def _transpose(pages: Pages, first: int, end: int, depth: int, keys: np.ndarray) -> None:
    """keys[d * KV_BLOCK + j] = element d of the key at first + j, up to position `end` or a whole block."""
    count = min(KV_BLOCK, end - first)
    j = 0
    while j < count:
        start = _place(pages, first + j)
        if (first + j) % pages.block_size + SIDE <= pages.block_size and j + SIDE <= KV_BLOCK:
            transpose_keys(pages.cache, start + pages.keys, pages.stride, depth, keys, j, KV_BLOCK)
            step = SIDE
        else:
            for d in range(depth):
                keys[d * KV_BLOCK + j] = widen(pages.cache[start + pages.keys + d])
            step = 1
        # what is read next: the values here, then the keys one block of KV further
        _ask(pages, start + pages.values, step, depth)
        if first + j + KV_BLOCK < end:
            _ask(pages, _place(pages, first + j + KV_BLOCK) + pages.keys, step, depth)
        j += step


@compiled
def _scores(lines: Lines, line: int, count: int, keys: np.ndarray) -> None:
    """s[j] of `count` lines: q times the key of lane j."""
    s, q, depth = lines.s, lines.q, lines.q.shape[1]
    if count == 4:
        accumulate(s, line, 4, KV_BLOCK, None, q, 0, keys, 0, KV_BLOCK, depth)
    elif count == 2:
        accumulate(s, line, 2, KV_BLOCK, None, q, 0, keys, 0, KV_BLOCK, depth)
    else:
        accumulate(s, line, 1, KV_BLOCK, None, q, 0, keys, 0, KV_BLOCK, depth)


@compiled
def _softmax(lines: Lines, line: int, low: int, high: int, scale: np.float32, lanes: np.ndarray) -> None:
    """From s to p in place; m, l and alpha move on. Lanes outside [low, high) see nothing and count as 0."""
    p, m = row_of(lines.s, line), lines.m[line]
    for j in range(KV_BLOCK):
        p[j] = select((j >= low) & (j < high), scale * p[j], -INF)
    for j in range(KV_BLOCK):
        lanes[j] = p[j]
    half = KV_BLOCK >> 1
    while half:
        for j in range(half):
            lanes[j] = select(lanes[j + half] > lanes[j], lanes[j + half], lanes[j])
        half >>= 1
    new = select(lanes[0] > m, lanes[0], m)
    for j in range(KV_BLOCK):
        p[j] = exp32(p[j] - new)
    for j in range(KV_BLOCK):
        lanes[j] = p[j]
    alpha = exp32(m - new)
    lines.total[line] = lines.total[line] * alpha + tree_sum(lanes, KV_BLOCK)
    lines.m[line], lines.alpha[line] = new, alpha


@compiled
def _values(
    lines: Lines, line: int, count: int, j: int, cache: np.ndarray, first: int, stride: int, depth: int
) -> None:
    """acc of `count` lines: acc * alpha, then p[j], p[j + 1], ... times `depth` values of the cache."""
    acc, alpha, p, columns = lines.acc, lines.alpha, lines.s, lines.acc.shape[1]
    if count == 4:
        accumulate(acc, line, 4, columns, alpha, p, j, cache, first, stride, depth)
    elif count == 2:
        accumulate(acc, line, 2, columns, alpha, p, j, cache, first, stride, depth)
    else:
        accumulate(acc, line, 1, columns, alpha, p, j, cache, first, stride, depth)
    # the next page goes on where this one ends: x * 1.0 is x
    alpha[line : line + count] = ONE


@compiled
def _visit(
    lines: Lines,
    pages: Pages,
    keys: np.ndarray,
    lanes: np.ndarray,
    scale: np.float32,
    first: int,
    low: int,
    high: int,
) -> None:
    """One step of every line's online softmax over the positions first + [low, high) that it may see."""
    # np.int64: a literal 0 would compile all that is called here twice
    line = np.int64(0)
    while line < lines.last.size:
        end = min(high, lines.last[line] + 1 - first)
        count = 1
        while count < ABREAST and line + count < lines.last.size:
            if min(high, lines.last[line + count] + 1 - first) != end:
                break
            count += 1
        # there is no code for three abreast, to compile faster
        if count == 3:
            count = 2
        if end > low:
            _scores(lines, line, count, keys)
            for i in range(line, line + count):
                _softmax(lines, i, low, end, scale, lanes)
            j = low
            while j < end:
                depth = min(end - j, pages.block_size - (first + j) % pages.block_size)
                start = _place(pages, first + j) + pages.values
                _values(lines, line, count, j, pages.cache, start, pages.stride, depth)
                j += depth
        line += count


@compiled
def attend(
    q: np.ndarray, cache: np.ndarray, table: np.ndarray, positions: np.ndarray, cut: int, scale: np.float32,
    out: np.ndarray, top: int, bottom: int, kv_head: int, depth: int,
) -> None:  # fmt: skip
    """Rows [top, bottom), all of the sequence of `table`, with the heads that share head `kv_head`."""
    width = cache.shape[3]
    group = q.shape[1] // width
    count = (bottom - top) * group
    pages = Pages(
        cache.reshape(-1), table, cache.shape[1], 2 * width, kv_head * depth, width + kv_head * depth
    )
    state = _scratch(3 * count)
    lines = Lines(
        np.empty(count, np.int64),
        _scratch(count * depth).reshape(count, depth),
        _scratch(count * depth).reshape(count, depth),
        _scratch(count * KV_BLOCK).reshape(count, KV_BLOCK),
        state[:count],
        state[count : 2 * count],
        state[2 * count :],
    )
    keys, lanes = _scratch(depth * KV_BLOCK), np.empty(KV_BLOCK, np.float32)
    lines.m[:], lines.total[:], lines.acc[:] = -INF, ZERO, ZERO
    for line in range(count):
        row, column = top + line // group, (kv_head * group + line % group) * depth
        lines.last[line] = positions[row]
        for d in range(depth):
            lines.q[line, d] = widen(q[row, column + d])
    length = lines.last.max() + 1
    for first in range(0, length, KV_BLOCK):
        _transpose(pages, first, length, depth, keys)
        low = np.int64(0)
        while low < KV_BLOCK:
            high = cut - first if first + low < cut < first + KV_BLOCK else KV_BLOCK
            _visit(lines, pages, keys, lanes, scale, first, low, high)
            low = np.int64(high)
    for line in range(count):
        row, column = top + line // group, (kv_head * group + line % group) * depth
        for d in range(depth):
            # + 0.0: a device that adds the zeros of masked positions never ends at -0.0
            out[row, column + d] = narrow((lines.acc[line, d] + ZERO) / lines.total[line], out)

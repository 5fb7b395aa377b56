"""Attention with KV cut into parts: a fault kernel, what a tile, a split or another backend does to bits.

A part is visited in blocks of `block` positions counted from the part's own start, with an online softmax;
parts are merged in rising order (Dao et al., Flash-Decoding for long-context inference, 2023). A score is
added by 8 lanes, a block's weights from left to right. So its bits move with `starts` and `block`, which is
the point: nothing but a fault and the negative control of a test may call it.
"""

import numpy as np

from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.cpu.portable import INF, ONE, ZERO, exp32, fma, narrow, widen

LANES = 8


@compiled
def _score(q: np.ndarray, cache: np.ndarray, at: int, lanes: np.ndarray) -> np.float32:
    lanes[:] = ZERO
    for d in range(0, q.size, LANES):
        for lane in range(LANES):
            lanes[lane] = fma(q[d + lane], widen(cache[at + d + lane]), lanes[lane])
    for lane in range(1, LANES):
        lanes[0] += lanes[lane]
    return lanes[0]


@compiled
def _part(
    q: np.ndarray, cache: np.ndarray, places: np.ndarray, value: int, first: int, stop: int, block: int,
    scale: np.float32, acc: np.ndarray, p: np.ndarray, lanes: np.ndarray,
) -> tuple[np.float32, np.float32]:  # fmt: skip
    """(m, l) of positions [first, stop), whose weighted values are left in acc."""
    m, total = -INF, ZERO
    acc[:] = ZERO
    for start in range(first, stop, block):
        end = min(start + block, stop)
        new = m
        for j in range(start, end):
            p[j - start] = scale * _score(q, cache, places[j], lanes)
            new = max(new, p[j - start])
        alpha = exp32(m - new)
        total *= alpha
        for d in range(acc.size):
            acc[d] *= alpha
        for j in range(start, end):
            weight = exp32(p[j - start] - new)
            total += weight
            for d in range(acc.size):
                acc[d] = fma(weight, widen(cache[places[j] + value + d]), acc[d])
        m = new
    return m, total


@compiled
def _rows(
    q: np.ndarray, cache: np.ndarray, tables: np.ndarray, row_seq: np.ndarray, positions: np.ndarray,
    starts: np.ndarray, block: int, scale: np.float32, depth: int, out: np.ndarray,
) -> None:  # fmt: skip
    block_size, width = cache.shape[1], cache.shape[3]
    flat, group = cache.reshape(-1), q.shape[1] // width
    longest = positions.max() + 1
    line, lanes, p = np.empty(depth, np.float32), np.empty(LANES, np.float32), np.empty(longest, np.float32)
    acc, part, places = np.empty(depth, np.float32), np.empty(depth, np.float32), np.empty(longest, np.int64)
    for row in range(q.shape[0]):
        length = positions[row] + 1
        for head in range(q.shape[1] // depth):
            for j in range(length):
                slot = tables[row_seq[row], j // block_size] * block_size + j % block_size
                places[j] = slot * 2 * width + head // group * depth
            for d in range(depth):
                line[d] = widen(q[row, head * depth + d])
            m, total = -INF, ZERO
            acc[:] = ZERO
            for i in range(starts.shape[1]):
                first = starts[row, i]
                if first >= length:
                    break
                stop = min(length, starts[row, i + 1]) if i + 1 < starts.shape[1] else length
                other, weight = _part(line, flat, places, width, first, stop, block, scale, part, p, lanes)
                new = max(m, other)
                # exp(-inf) is 0: the first part replaces what is not there yet
                ours, theirs = exp32(m - new), exp32(other - new)
                total = total * ours + weight * theirs
                for d in range(depth):
                    acc[d] = acc[d] * ours + part[d] * theirs
                m = new
            inverse = ONE / total
            for d in range(depth):
                out[row, head * depth + d] = narrow(acc[d] * inverse, out)


def attention_in_parts(
    q: np.ndarray, cache: np.ndarray, block_tables: np.ndarray, row_seq: np.ndarray, positions: np.ndarray,
    scale: float, out: np.ndarray, starts: np.ndarray, block: int,
) -> np.ndarray:  # fmt: skip
    """`attention`, scale being head_dim**-0.5; gives `out`.

    starts int64 [R, P]: where row r's parts begin, rising from 0; those past its position do not exist.
    ValueError unless they begin at 0 and rise, and `block` is at least 1.
    """
    if block < 1 or starts.shape[0] != len(q) or (starts[:, :1] != 0).any() or (np.diff(starts) < 1).any():
        raise ValueError(f"attention_in_parts: block {block}, parts {starts.tolist()} of {len(q)} rows")
    if len(q):
        depth = round(scale**-2)
        job = np.ascontiguousarray(q), cache, block_tables, np.ascontiguousarray(row_seq)
        _rows(*job, np.ascontiguousarray(positions), starts, block, np.float32(scale), depth, out)
    return out

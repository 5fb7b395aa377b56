"""Attention over a paged cache: the same bits for a row in any batch, chunk, block layout and thread count.

Invariant: one row and head visits KV in blocks of KV_BLOCK positions at fixed absolute places, [64b, 64b +
64), with an online softmax (Milakov and Gimelshein, Online Normalizer Calculation for Softmax, 2018). A block
takes

    s[j] = scale * (fma chain of q[d] * k[j, d] over d = 0..D-1 from 0.0)
    new = max(m, max over j of s[j]);  p[j] = exp32(s[j] - new);  alpha = exp32(m - new)
    l = l * alpha + tree_sum(p over 64 lanes, lanes past the row's position 0)
    acc[d] = fma chain of p[j] * v[j, d] over rising j from acc[d] * alpha

from m = -inf, l = 0 and acc = 0, and the result is (acc + 0.0) / l. Prefill and decode are this one
formulation. A tile of rows only decides what is computed side by side.
"""

import numpy as np
from numba import get_num_threads, prange

from detrec.kernels.cpu.attention_tile import KV_BLOCK, attend
from detrec.kernels.cpu.compiling import compiled, shared

KERNEL = f"cpu.attention kv_block={KV_BLOCK} online softmax"
"""Names the kernel and all of its configuration that could move a bit."""

MAX_HEAD_DIM = 256

# rows of one sequence that share a transposed block of keys
TILE_ROWS = 16

# multiply-adds below which a second thread costs more than it brings
SERIAL = 1 << 20

_NO_CUT = np.empty(0, np.int64)


@compiled
def _plan(
    cache: np.ndarray,
    tables: np.ndarray,
    row_seq: np.ndarray,
    positions: np.ndarray,
    cut: np.ndarray,
    tiles: np.ndarray,
) -> tuple[int, int]:
    """Cut the rows into tiles of one sequence and cut: (tiles, positions seen), or (-1, the wrong row)."""
    block_size = cache.shape[1]
    count, seen, proved = 0, 0, 0
    for row in range(row_seq.size):
        seq, position, top = row_seq[row], positions[row], tiles[max(count - 1, 0)]
        if seq < 0 or seq >= tables.shape[0] or position < 0 or position >= tables.shape[1] * block_size:
            return -1, row
        joins = (
            row and row - top < TILE_ROWS and row_seq[top] == seq and (not cut.size or cut[top] == cut[row])
        )
        if not joins:
            tiles[count] = row
            count += 1
            proved = 0
        while proved * block_size <= position:
            if tables[seq, proved] < 0 or tables[seq, proved] >= cache.shape[0]:
                return -1, row
            proved += 1
        seen += position + 1
    tiles[count] = row_seq.size
    return count, seen


@compiled
def _tasks(
    q: np.ndarray, cache: np.ndarray, tables: np.ndarray, row_seq: np.ndarray, positions: np.ndarray,
    cut: np.ndarray, scale: np.float32, out: np.ndarray, tiles: np.ndarray, n_tiles: int, depth: int,
    first: int, step: int,
) -> None:  # fmt: skip
    """Every `step`-th pair of a tile and a head of KV.

    Neighbours cost about the same, so each thread has its share.
    """
    heads = cache.shape[3] // depth
    for task in range(first, n_tiles * heads, step):
        tile, head = task // heads, task % heads
        top, bottom = tiles[tile], tiles[tile + 1]
        at = cut[top] if cut.size else 0
        attend(q, cache, tables[row_seq[top]], positions, at, scale, out, top, bottom, head, depth)


@shared
def _parallel(
    q: np.ndarray, cache: np.ndarray, tables: np.ndarray, row_seq: np.ndarray, positions: np.ndarray,
    cut: np.ndarray, scale: np.float32, out: np.ndarray, tiles: np.ndarray, n_tiles: int, depth: int,
    threads: int,
) -> None:  # fmt: skip
    for thread in prange(threads):
        _tasks(q, cache, tables, row_seq, positions, cut, scale, out, tiles, n_tiles, depth, thread, threads)


def attention(
    q: np.ndarray, cache: np.ndarray, block_tables: np.ndarray, row_seq: np.ndarray, positions: np.ndarray,
    scale: float, out: np.ndarray, cut: np.ndarray | None = None, *, head_dim: int | None = None,
) -> np.ndarray:  # fmt: skip
    """Row r of sequence row_seq[r] attends to positions 0 .. positions[r] of that sequence; gives `out`.

    q and out [R, heads*D], out contiguous and not the memory of q; cache [blocks, block_size, 2, kv_heads*D],
    contiguous, keys then values; each float32 or uint16 (bfloat16 bits). block_tables int32 [sequences,
    max_blocks]; row_seq int32 [R]; positions int64 [R]. D is a multiple of 8 up to 256: `head_dim`, or, where
    that is None, told by scale, which must then be D**-0.5. cut int64 [R] or None: row r's visit of KV has
    one more boundary, at position cut[r], which gives other bits unless that is a multiple of KV_BLOCK.
    ValueError where these do not fit.
    """
    depth = _head_dim(scale) if head_dim is None else head_dim
    _expect(q, cache, out, depth)
    for name, x, dtype in (
        ("row_seq", row_seq, np.int32),
        ("positions", positions, np.int64),
        ("cut", cut, np.int64),
    ):
        if x is not None and (x.shape != q.shape[:1] or x.dtype != dtype):
            raise ValueError(
                f"attention: {name} is {x.dtype} {list(x.shape)}, expected {dtype.__name__} [{len(q)}]"
            )
    if block_tables.ndim != 2 or block_tables.dtype != np.int32:
        raise ValueError(
            f"attention: block_tables are {block_tables.dtype} {list(block_tables.shape)}, "
            "expected int32 [sequences, max_blocks]"
        )
    if not len(q):
        return out
    cuts = _NO_CUT if cut is None else cut
    tiles = np.empty(len(q) + 1, np.int64)
    count, seen = _plan(cache, block_tables, row_seq, positions, cuts, tiles)
    if count < 0:
        raise ValueError(
            f"attention: row {seen} is at position {positions[seen]} of sequence {row_seq[seen]}, "
            f"which block_tables {list(block_tables.shape)} and cache {list(cache.shape)} do not hold"
        )
    # one layout, one compilation
    q, scale32 = np.ascontiguousarray(q), np.float32(scale)
    job = q, cache, block_tables, row_seq, positions, cuts, scale32, out, tiles, count, depth
    if 2 * seen * q.shape[1] < SERIAL:
        _tasks(*job, 0, 1)
    else:
        _parallel(*job, get_num_threads())
    return out


def _head_dim(scale: float) -> int:
    depth = round(scale**-2) if scale > 0 else 0
    if not depth or depth**-0.5 != scale:
        raise ValueError(f"attention: scale {scale} is D**-0.5 of no head_dim D, which must then be given")
    return depth


def _expect(q: np.ndarray, cache: np.ndarray, out: np.ndarray, depth: int) -> None:
    """Raise ValueError unless the shapes fit one another and heads of `depth` elements."""
    if q.ndim != 2 or not out.flags.c_contiguous:
        raise ValueError(
            f"attention: q has shape {list(q.shape)}, out {list(out.shape)} and strides {out.strides}, "
            "expected [R, heads*D] and out contiguous"
        )
    if cache.ndim != 4 or cache.shape[2] != 2 or not cache.flags.c_contiguous:
        raise ValueError(
            f"attention: cache has shape {list(cache.shape)} and strides {cache.strides}, "
            "expected contiguous [blocks, block_size, 2, kv_heads*D]"
        )
    if depth % 8 or not 0 < depth <= MAX_HEAD_DIM:
        raise ValueError(f"attention: head_dim is {depth}, expected a multiple of 8 up to {MAX_HEAD_DIM}")
    width = cache.shape[3]
    if out.shape != q.shape or not width or width % depth or q.shape[1] % width:
        raise ValueError(
            f"attention: q {list(q.shape)}, cache {list(cache.shape)} and out {list(out.shape)} do not fit, "
            f"expected [R, heads*{depth}], [blocks, block_size, 2, kv_heads*{depth}] and [R, heads*{depth}], "
            "heads a multiple of kv_heads"
        )

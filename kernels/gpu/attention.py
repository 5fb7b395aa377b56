"""Attention over a paged cache: the same bits for a row in any batch, chunk, block layout and graph.

A step's rows are cut on the host (`plan_step`) into single rows and tiles of consecutive rows of a sequence.
Invariant: how they are cut decides only which kernel runs what side by side. In float32 all of them have the
bits of `kernels/cpu/attention.py`; in bfloat16 and float16 single rows and tiles go through the same blocks
and partitions of KV in the same order (`attention_softmax.py`).
"""

from dataclasses import dataclass

import numpy as np

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.attention_decode import attend_singles, decode_bytes
from detrec.kernels.gpu.attention_portable import attend_portable
from detrec.kernels.gpu.attention_prefill import TILE_LINES, attend_tiles, prefill_bytes
from detrec.kernels.gpu.attention_softmax import KV_BLOCK, PARTITION

KERNEL = f"gpu.attention kv_block={KV_BLOCK} partition={PARTITION} online softmax; float32 as on the CPU"
"""Names the kernel and all of its configuration that could move a bit."""

MAX_HEAD_DIM = 256

# rows of one sequence below which each of them is a single row: gathering KV would cost more than it brings
SHORT = 9


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """How the rows of one step are cut; the same for every layer.

    A slice's lines are its rows times the heads that share one of KV, heads fastest. `table` int32 [singles +
    tiles + copies, 4] goes to the device as it is: single rows (row, 1, 0, 0); then tiles of up to TILE_LINES
    lines (first row and rows of the slice, where its sequence begins in the gathered KV, first line), the
    longest first; then the blocks of KV to gather (first row of the slice, first position, place in the
    gathered KV, positions in all). `max_len` positions are the most that a single row sees.
    """

    table: np.ndarray
    singles: int
    tiles: int
    copies: int
    max_len: int


def plan_decode(rows: int, max_len: int) -> AttentionPlan:
    """Every row by itself, for contexts up to `max_len`: one plan for every replay of a captured graph."""
    table = np.zeros((rows, 4), np.int32)
    table[:, 0], table[:, 1] = np.arange(rows), 1
    return AttentionPlan(table, rows, 0, 0, max_len)


def plan_step(row_seq: np.ndarray, positions: np.ndarray, group: int) -> AttentionPlan:
    """The plan of a step's rows: int32 [R] and int64 [R], as `attention` takes them; -1 marks padding.

    Rows of one slice stand together in rising order; `group` heads share one head of KV.
    """
    joins = (row_seq[1:] == row_seq[:-1]) & (positions[1:] == positions[:-1] + 1) & (row_seq[1:] >= 0)
    starts = np.flatnonzero(np.r_[True, ~joins][: len(row_seq)])
    counts = np.diff(np.r_[starts, len(row_seq)])
    short = counts < SHORT
    alone = np.flatnonzero(np.repeat(short, counts) & (row_seq >= 0))
    singles = np.zeros((len(alone), 4), np.int32)
    singles[:, 0], singles[:, 1] = alone, 1

    place = 0
    tiles, copies = [np.empty((0, 4), np.int64)], [np.empty((0, 4), np.int64)]
    for start, count in zip(starts[~short], counts[~short], strict=True):
        line = np.arange(0, count * group, TILE_LINES)
        tiles.append(np.stack(np.broadcast_arrays(start, count, place, line), 1))
        length = positions[start] + count
        at = np.arange(0, length, KV_BLOCK)
        copies.append(np.stack(np.broadcast_arrays(start, at, place + at, length), 1))
        place += len(at) * KV_BLOCK
    tile, copy = np.concatenate(tiles), np.concatenate(copies)
    # the heaviest start first, so that none of them ends alone
    seen = positions[tile[:, 0]] + np.minimum((tile[:, 3] + TILE_LINES) // group, tile[:, 1])
    tile = tile[np.argsort(-seen, kind="stable")]
    table = np.concatenate([singles, tile, copy]).astype(np.int32)
    longest = int(positions[alone].max()) + 1 if len(alone) else 0
    return AttentionPlan(table, len(singles), len(tile), len(copy), longest)


def scratch_bytes(plan: AttentionPlan, heads: int, kv_heads: int, head_dim: int) -> int:
    """Bytes of scratch that `attention` needs; single rows are done before the others begin."""
    return max(
        decode_bytes(plan.singles, plan.max_len, heads, head_dim),
        prefill_bytes(plan.tiles, plan.copies, kv_heads, head_dim),
    )


def attention(
    q: DeviceArray, cache: DeviceArray, block_tables: DeviceArray, row_seq: DeviceArray,
    positions: DeviceArray, plan: AttentionPlan, table: DeviceArray, scale: float, out: DeviceArray,
    scratch: DeviceArray, head_dim: int,
) -> DeviceArray:  # fmt: skip
    """Row r of sequence row_seq[r] attends to positions 0 .. positions[r] of that sequence; gives `out`.

    q and out [R, heads*D], rows contiguous, out not the memory of q; cache [blocks, block_size, 2,
    kv_heads*D], contiguous, keys then values; all three float32, bfloat16 or float16. block_tables int32
    [sequences, max_blocks]; row_seq int32 [R], where -1 marks a padding row, of which no state is read and
    whose row of out stays unwritten; positions int64 [R]. `table` is a copy of plan.table on the device;
    scratch is uint8, `scratch_bytes` long, 16-byte aligned; scale is positive. ValueError where these do not
    fit.
    """
    _expect(q, cache, block_tables, row_seq, positions, plan, table, out, scratch, head_dim)
    if scale <= 0:
        raise ValueError(f"attention: scale is {scale}, expected a positive number")
    singles = table[: plan.singles]
    tiles = table[plan.singles : plan.singles + plan.tiles]
    inputs = q, cache, block_tables, row_seq, positions
    if q.dtype == "float32":
        group = q.shape[1] // cache.shape[3]
        attend_portable(*inputs, singles, group, scale, out, head_dim)
        attend_portable(*inputs, tiles, TILE_LINES, scale, out, head_dim)
        return out
    if plan.singles:
        attend_singles(*inputs, singles, plan.max_len, scale, out, scratch, head_dim)
    if plan.tiles:
        copies = table[plan.singles + plan.tiles :]
        attend_tiles(*inputs, tiles, copies, scale, out, scratch, head_dim)
    return out


def _expect(
    q: DeviceArray, cache: DeviceArray, block_tables: DeviceArray, row_seq: DeviceArray,
    positions: DeviceArray, plan: AttentionPlan, table: DeviceArray, out: DeviceArray, scratch: DeviceArray,
    head_dim: int,
) -> None:  # fmt: skip
    """Raise ValueError unless shapes and dtypes fit one another."""
    if not q.dtype == cache.dtype == out.dtype or q.dtype not in ("float32", "bfloat16", "float16"):
        raise ValueError(
            f"attention: q is {q.dtype}, cache {cache.dtype}, out {out.dtype}, "
            "expected one of float32, bfloat16, float16"
        )
    if not 16 <= head_dim <= MAX_HEAD_DIM or head_dim % 8:
        raise ValueError(
            f"attention: head_dim is {head_dim}, expected a multiple of 8 from 16 to {MAX_HEAD_DIM}"
        )
    if cache.ndim != 4 or cache.shape[2] != 2 or not cache.is_contiguous:
        raise ValueError(
            f"attention: cache has shape {list(cache.shape)} and strides {list(cache.strides)}, "
            "expected contiguous [blocks, block_size, 2, kv_heads*D]"
        )
    width = cache.shape[3]
    if q.ndim != 2 or out.shape != q.shape or not width or width % head_dim or q.shape[1] % width:
        raise ValueError(
            f"attention: q {list(q.shape)}, cache {list(cache.shape)} and out {list(out.shape)} do not fit, "
            f"expected [R, heads*{head_dim}], [blocks, block_size, 2, kv_heads*{head_dim}] and "
            f"[R, heads*{head_dim}], heads a multiple of kv_heads"
        )
    if q.strides[1] != 1 or out.strides[1] != 1:
        raise ValueError(
            f"attention: rows of q and out have strides {q.strides[1]} and {out.strides[1]}, expected 1"
        )
    for name, x, dtype, shape in (
        ("row_seq", row_seq, "int32", q.shape[:1]),
        ("positions", positions, "int64", q.shape[:1]),
        ("table", table, "int32", plan.table.shape),
        ("block_tables", block_tables, "int32", (*block_tables.shape[:1], block_tables.shape[-1])),
    ):
        if x.dtype != dtype or x.shape != shape or x.strides[-1] != 1:
            raise ValueError(
                f"attention: {name} is {x.dtype} {list(x.shape)}, expected {dtype} {list(shape)}"
            )
    if q.dtype != "float32":
        needed = scratch_bytes(plan, q.shape[1] // head_dim, width // head_dim, head_dim)
        if scratch.nbytes < needed or scratch.address % 16:
            raise ValueError(
                f"attention: scratch has {scratch.nbytes} bytes at {scratch.address:#x}, expected {needed}, "
                "16-byte aligned"
            )

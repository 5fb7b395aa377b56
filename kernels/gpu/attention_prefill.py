"""Attention of tiles of consecutive rows in low precision, over KV that was gathered from its pages first.

Invariant: a line, which is a pair of a row and a head, goes through the blocks and partitions of
`attention_softmax.py` in rising order. A tile only decides what is computed side by side: positions that a
line does not see add zeros, and where that was not so, because they hold an infinity or NaN, the line is done
again without them (`attention_again.py`).
"""

import functools
from typing import Any

from triton.tools.tensor_descriptor import TensorDescriptor

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.attention_again import attend_again
from detrec.kernels.gpu.attention_softmax import KV_BLOCK, LOG2E, PARTITION, dot, merge, visit
from detrec.kernels.gpu.portable import narrow
from detrec.kernels.launch import INTERPRETED, cdiv, launch, shared_memory, tl, triton

TILE_LINES = 128
"""Lines of a tile at most; a line is a pair of a row and one of the heads that share one of KV."""

SPECIALISED = True
"""Whether a Hopper GPU runs `attention_hopper.py` instead, for heads of 64 to 128; no bit depends on it."""

NUM_WARPS = 8
GATHER_WARPS = 4


@triton.jit(do_not_specialize=["tables_stride"])
def _gather_kernel(
    cache_ptr, tables_ptr, seq_ptr, copies_ptr, gathered_ptr, tables_stride, kv_heads, capacity,
    D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr, KV_BLOCK: tl.constexpr,
):  # fmt: skip
    half = tl.program_id(0)
    copy = tl.program_id(1).to(tl.int64)
    row = tl.load(copies_ptr + copy * 4).to(tl.int64)
    first = tl.load(copies_ptr + copy * 4 + 1)
    place = tl.load(copies_ptr + copy * 4 + 2).to(tl.int64)
    length = tl.load(copies_ptr + copy * 4 + 3)
    seq = tl.load(seq_ptr + row).to(tl.int64)
    lane = tl.arange(0, KV_BLOCK)
    at = first + lane
    seen = at < length
    page = tl.load(tables_ptr + seq * tables_stride + at // PAGE, mask=seen, other=0).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    inside = d[None, :] < D
    source = (page * PAGE + at % PAGE) * (2 * kv_heads * D) + half * D
    # past the end: zeros, because 0 * NaN is not 0
    x = tl.load(cache_ptr + source[:, None] + d, mask=seen[:, None] & inside, other=0.0)
    target = (half.to(tl.int64) * capacity + place + lane) * D
    tl.store(gathered_ptr + target[:, None] + d, x, mask=inside)


@triton.jit
def _nothing(LINES: tl.constexpr, BLOCK_D: tl.constexpr):
    """m, total and acc of lines that have seen no position."""
    m = tl.full([LINES], float("-inf"), tl.float32)
    return m, tl.zeros([LINES], tl.float32), tl.zeros([LINES, BLOCK_D], tl.float32)


@triton.jit
def _scores(q, keys, first, KV_BLOCK: tl.constexpr):
    """q times the keys of a block of KV."""
    k = keys.load([first, 0])
    return dot(q, tl.trans(k), tl.zeros([q.shape[0], KV_BLOCK], tl.float32))


@triton.jit
def _give(out_ptr, flag, acc, total, row, column, d, out_stride, valid, D: tl.constexpr):
    """Write the lines of a tile, and whether any result is not finite."""
    result = tl.div_rn(acc + 0.0, total[:, None] + tl.zeros([acc.shape[0], acc.shape[1]], tl.float32))
    place = row[:, None] * out_stride + column[:, None] + d
    tl.store(
        out_ptr + place, narrow(result, out_ptr.dtype.element_ty), mask=valid[:, None] & (d[None, :] < D)
    )
    bad = tl.where(tl.abs(result) < float("inf"), 0, 1)
    tl.store(flag, tl.max(tl.max(bad, axis=1), axis=0))


@triton.jit
def _tile_kernel(
    q_ptr, positions_ptr, tiles_ptr, keys, values, out_ptr, flags_ptr, scale, q_stride, out_stride, capacity,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, LINES: tl.constexpr,
    KV_BLOCK: tl.constexpr, PARTITION: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    kv_head, tile = tl.program_id(0), tl.program_id(1).to(tl.int64)
    flag = flags_ptr + (tile * tl.num_programs(0) + kv_head) * 2 + tl.program_id(2)
    top = tl.load(tiles_ptr + tile * 4).to(tl.int64)
    lines = tl.load(tiles_ptr + tile * 4 + 1) * GROUP
    base = kv_head * capacity + tl.load(tiles_ptr + tile * 4 + 2)
    start = tl.load(positions_ptr + top).to(tl.int32)
    first_line = tl.load(tiles_ptr + tile * 4 + 3) + tl.program_id(2) * LINES
    if first_line >= lines:
        tl.store(flag, 0)
        return

    # lines past the slice's last repeat it and are not stored
    line = first_line + tl.arange(0, LINES)
    valid = line < lines
    line = tl.minimum(line, lines - 1)
    position = start + line // GROUP
    row, column = top + line // GROUP, (kv_head * GROUP + line % GROUP) * D
    d = tl.arange(0, BLOCK_D)
    q = tl.load(q_ptr + row[:, None] * q_stride + column[:, None] + d, mask=d[None, :] < D, other=0.0)
    lane = tl.arange(0, KV_BLOCK)
    m, total, acc = _nothing(LINES, BLOCK_D)

    # partitions that every line sees whole, then the rest
    whole = (start + first_line // GROUP + 1) // PARTITION * PARTITION
    length = start + tl.minimum(first_line + LINES - 1, lines - 1) // GROUP + 1
    for begin in tl.range(0, whole, PARTITION, flatten=True):
        part_m, part_total, part_acc = _nothing(LINES, BLOCK_D)
        for block in tl.range(0, PARTITION, KV_BLOCK):
            s = _scores(q, keys, base + begin + block, KV_BLOCK)
            v = values.load([base + begin + block, 0])
            part_m, part_total, part_acc = visit(s, v, part_m, part_total, part_acc, scale)
        m, total, acc = merge(m, total, acc, part_m, part_total, part_acc)
    for begin in range(whole, length, PARTITION):
        part_m, part_total, part_acc = _nothing(LINES, BLOCK_D)
        for first in range(begin, min(begin + PARTITION, length), KV_BLOCK):
            s = _scores(q, keys, base + first, KV_BLOCK)
            s = tl.where((first + lane)[None, :] <= position[:, None], s, float("-inf"))
            v = values.load([base + first, 0])
            part_m, part_total, part_acc = visit(s, v, part_m, part_total, part_acc, scale)
        m, total, acc = merge(m, total, acc, part_m, part_total, part_acc)

    _give(out_ptr, flag, acc, total, row, column, d, out_stride, valid, D)
    if WHOLE:
        tl.store(flag + 1, 0)


def _shape(head_dim: int) -> tuple[int, int]:
    """Lines and stages of a program, as registers and shared memory allow; no bit depends on either."""
    if head_dim > 128:
        return TILE_LINES // 2, 1
    # the queries, some barriers, then keys and values of each stage
    width = triton.next_power_of_2(head_dim) * 2
    fitting = (shared_memory() - TILE_LINES * width - 2048) // (2 * KV_BLOCK * width)
    return TILE_LINES, min(3, fitting)


@functools.cache
def _hopper_tiles() -> Any:
    """`attention_hopper.hopper_tiles` where it runs, else None."""
    if INTERPRETED or not SPECIALISED or triton.runtime.driver.active.get_current_target().arch != 90:
        return None
    try:
        from detrec.kernels.gpu.attention_hopper import hopper_tiles
    except ImportError:
        # Gluon is experimental in every Triton so far: without it there is less speed, and not another bit
        return None
    return hopper_tiles


def prefill_bytes(tiles: int, copies: int, kv_heads: int, head_dim: int) -> int:
    """Bytes of scratch that `attend_tiles` needs."""
    return copies * KV_BLOCK * 2 * kv_heads * head_dim * 2 + tiles * kv_heads * 2 * 4


def attend_tiles(
    q: DeviceArray, cache: DeviceArray, block_tables: DeviceArray, row_seq: DeviceArray,
    positions: DeviceArray, tiles: DeviceArray, copies: DeviceArray, scale: float, out: DeviceArray,
    scratch: DeviceArray, head_dim: int,
) -> None:  # fmt: skip
    """The lines of `tiles`, int32 [T, 4], after the blocks of KV in `copies`, int32 [C, 4], are gathered."""
    kv_heads, capacity = cache.shape[3] // head_dim, len(copies) * KV_BLOCK
    gathered = DeviceArray(scratch.address, cache.dtype, (2, kv_heads, capacity, head_dim))
    # whether a half of a tile has a result that is not finite
    flags = DeviceArray(scratch.address + gathered.nbytes, "int32", (len(tiles), kv_heads, 2))
    launch(
        _gather_kernel, (2 * kv_heads, len(copies)), cache, block_tables, row_seq, copies, gathered,
        block_tables.strides[0], kv_heads, capacity, D=head_dim, BLOCK_D=triton.next_power_of_2(head_dim),
        PAGE=cache.shape[1], KV_BLOCK=KV_BLOCK, num_warps=GATHER_WARPS,
    )  # fmt: skip
    hopper_tiles = _hopper_tiles() if 64 <= head_dim <= 128 else None
    if hopper_tiles:
        hopper_tiles(q, positions, tiles, gathered, flags, scale, out, head_dim)
    else:
        _attend_tiles(q, positions, tiles, gathered, flags, scale, out, head_dim)
    attend_again(
        *(q, cache, block_tables, row_seq, positions, tiles, TILE_LINES, flags, scale, out, head_dim)
    )


def _attend_tiles(
    q: DeviceArray, positions: DeviceArray, tiles: DeviceArray, gathered: DeviceArray, flags: DeviceArray,
    scale: float, out: DeviceArray, head_dim: int,
) -> None:  # fmt: skip
    _, kv_heads, capacity, _ = gathered.shape
    block_d = triton.next_power_of_2(head_dim)
    keys, values = (
        TensorDescriptor(half, [kv_heads * capacity, head_dim], [head_dim, 1], [KV_BLOCK, block_d])
        for half in (gathered[0], gathered[1])
    )
    lines, stages = _shape(head_dim)
    launch(
        _tile_kernel, (kv_heads, len(tiles), cdiv(TILE_LINES, lines)), q, positions, tiles, keys, values,
        out, flags, scale * LOG2E, q.strides[0], out.strides[0], capacity,
        GROUP=q.shape[1] // (kv_heads * head_dim), D=head_dim, BLOCK_D=block_d, LINES=lines,
        KV_BLOCK=KV_BLOCK, PARTITION=PARTITION, WHOLE=lines == TILE_LINES, num_warps=NUM_WARPS,
        num_stages=stages,
    )  # fmt: skip

"""Attention of single rows in low precision: a program for each partition of KV, then one that merges them.

Invariant: a partition is PARTITION positions at a fixed absolute place, whichever program runs it, and
partitions are merged in rising order. `attention_softmax.py` says what a block of KV does.
"""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.attention_softmax import KV_BLOCK, LOG2E, PARTITION, dot, merge, visit
from detrec.kernels.gpu.portable import narrow
from detrec.kernels.launch import cdiv, launch, tl, triton

NUM_WARPS = 4
MERGE_WARPS = 1

# partitions whose loads are under way together
AHEAD = 8


@triton.jit
def attend_partition(
    q, cache_ptr, table, kv_head, kv_heads, begin, position, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr, LINES: tl.constexpr, KV_BLOCK: tl.constexpr,
    PARTITION: tl.constexpr,
):  # fmt: skip
    """Lines q [LINES, BLOCK_D] of one row over the partition that begins at `begin`: m, total and acc."""
    d = tl.arange(0, BLOCK_D)
    inside = d < D
    width = kv_heads * D
    m = tl.full([LINES], float("-inf"), tl.float32)
    total = tl.zeros([LINES], tl.float32)
    acc = tl.zeros([LINES, BLOCK_D], tl.float32)
    keys = cache_ptr + kv_head * D
    at = begin + tl.arange(0, KV_BLOCK)
    page = tl.load(table + at // PAGE, mask=at <= position, other=0)
    for _ in range(begin, min(begin + PARTITION, position + 1), KV_BLOCK):
        seen = at <= position
        place = (page.to(tl.int64) * PAGE + at % PAGE) * (2 * width)
        mask = seen[:, None] & inside[None, :]
        k = tl.load(keys + place[:, None] + d, mask=mask, other=0.0)
        v = tl.load(keys + width + place[:, None] + d, mask=mask, other=0.0)
        # a block ahead, so that no load waits for another
        at += KV_BLOCK
        page = tl.load(table + at // PAGE, mask=at <= position, other=0)
        s = dot(q, tl.trans(k), tl.zeros([LINES, KV_BLOCK], tl.float32))
        s = tl.where(seen[None, :], s, float("-inf"))
        m, total, acc = visit(s, v, m, total, acc, scale)
    return m, total, acc


@triton.jit(do_not_specialize=["tables_stride", "parts"])
def _partition_kernel(
    q_ptr, cache_ptr, tables_ptr, seq_ptr, positions_ptr, singles_ptr, acc_ptr, state_ptr, scale, q_stride,
    tables_stride, kv_heads, parts,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr, LINES: tl.constexpr,
    KV_BLOCK: tl.constexpr, PARTITION: tl.constexpr, EVERY: tl.constexpr,
):  # fmt: skip
    kv_head, part, single = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    row = single if EVERY else tl.load(singles_ptr + single * 4).to(tl.int64)
    seq = tl.load(seq_ptr + row).to(tl.int64)
    position = tl.load(positions_ptr + row).to(tl.int32)
    begin = part * PARTITION
    if seq < 0 or begin > position:
        return

    head = kv_head * GROUP + tl.minimum(tl.arange(0, LINES), GROUP - 1)
    d = tl.arange(0, BLOCK_D)
    inside = d < D
    q = tl.load(q_ptr + row * q_stride + head[:, None] * D + d, mask=inside[None, :], other=0.0)
    m, total, acc = attend_partition(
        q, cache_ptr, tables_ptr + seq * tables_stride, kv_head, kv_heads, begin, position, scale,
        D, BLOCK_D, PAGE, LINES, KV_BLOCK, PARTITION,
    )  # fmt: skip
    kept = tl.arange(0, LINES) < GROUP
    place = (single * parts + part) * (kv_heads * GROUP) + head
    tl.store(state_ptr + place * 2, m, mask=kept)
    tl.store(state_ptr + place * 2 + 1, total, mask=kept)
    tl.store(acc_ptr + place[:, None] * D + d, acc, mask=kept[:, None] & inside[None, :])


@triton.jit(do_not_specialize=["parts"])
def _merge_kernel(
    seq_ptr, positions_ptr, singles_ptr, acc_ptr, state_ptr, out_ptr, out_stride, heads, parts,
    D: tl.constexpr, BLOCK_D: tl.constexpr, PARTITION: tl.constexpr, EVERY: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    head, single = tl.program_id(0), tl.program_id(1).to(tl.int64)
    row = single if EVERY else tl.load(singles_ptr + single * 4).to(tl.int64)
    seq = tl.load(seq_ptr + row)
    position = tl.load(positions_ptr + row).to(tl.int32)
    if seq < 0:
        return

    d = tl.arange(0, BLOCK_D)
    inside = d < D
    m = tl.full([1], float("-inf"), tl.float32)
    total = tl.zeros([1], tl.float32)
    acc = tl.zeros([1, BLOCK_D], tl.float32)
    count = position // PARTITION + 1
    for part in tl.range(0, count, num_stages=AHEAD):
        place = (single * parts + part) * heads + head + tl.arange(0, 1)
        part_m, part_total = tl.load(state_ptr + place * 2), tl.load(state_ptr + place * 2 + 1)
        part_acc = tl.load(acc_ptr + place[:, None] * D + d, mask=inside[None, :], other=0.0)
        m, total, acc = merge(m, total, acc, part_m, part_total, part_acc)
    result = tl.div_rn(acc + 0.0, total[:, None] + tl.zeros([1, BLOCK_D], tl.float32))
    place = row * out_stride + head * D + d
    tl.store(out_ptr + place[None, :], narrow(result, out_ptr.dtype.element_ty), mask=inside[None, :])


def _stages(sequences: int, group: int, head_dim: int) -> int:
    """Blocks of KV under way together: few programs need more each, of many several share a processor."""
    return 3 if sequences < 16 and group <= 16 and head_dim <= 128 else 2


def decode_bytes(singles: int, max_len: int, heads: int, head_dim: int) -> int:
    """Bytes of scratch that `attend_singles` needs."""
    return singles * cdiv(max_len, PARTITION) * heads * (head_dim + 2) * 4


def attend_singles(
    q: DeviceArray, cache: DeviceArray, block_tables: DeviceArray, row_seq: DeviceArray,
    positions: DeviceArray, singles: DeviceArray, max_len: int, scale: float, out: DeviceArray,
    scratch: DeviceArray, head_dim: int,
) -> None:  # fmt: skip
    """The first row of each of `singles`, int32 [S, 4]; none sees more than `max_len` positions."""
    kv_heads, heads = cache.shape[3] // head_dim, q.shape[1] // head_dim
    group, parts, block_d = heads // kv_heads, cdiv(max_len, PARTITION), triton.next_power_of_2(head_dim)
    size = len(singles) * parts * heads
    # then the table need not be waited for
    every = len(singles) == q.shape[0]
    acc = DeviceArray(scratch.address, "float32", (size, head_dim))
    state = DeviceArray(scratch.address + size * head_dim * 4, "float32", (size, 2))
    launch(
        _partition_kernel, (kv_heads, parts, len(singles)), q, cache, block_tables, row_seq, positions,
        singles, acc, state, scale * LOG2E, q.strides[0], block_tables.strides[0], kv_heads, parts,
        GROUP=group, D=head_dim, BLOCK_D=block_d, PAGE=cache.shape[1],
        LINES=max(16, triton.next_power_of_2(group)), KV_BLOCK=KV_BLOCK, PARTITION=PARTITION,
        EVERY=every, num_warps=NUM_WARPS, num_stages=_stages(len(singles) * kv_heads, group, head_dim),
    )  # fmt: skip
    launch(
        _merge_kernel, (heads, len(singles)), row_seq, positions, singles, acc, state, out, out.strides[0],
        heads, parts, D=head_dim, BLOCK_D=block_d, PARTITION=PARTITION, EVERY=every,
        AHEAD=AHEAD,
        num_warps=MERGE_WARPS,
    )  # fmt: skip

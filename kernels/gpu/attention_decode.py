"""Attention of single rows in low precision: partitions of KV side by side, then programs that merge them.

Invariant: a partition is PARTITION positions at a fixed absolute place, whichever program runs it, and
partitions are merged in rising order. `attention_softmax.py` says what a block of KV does.
"""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.attention_softmax import KV_BLOCK, LOG2E, PARTITION, dot, merge, visit
from detrec.kernels.gpu.overlap import can_overlap, let_next_start, wait_for_previous
from detrec.kernels.gpu.portable import narrow
from detrec.kernels.launch import cdiv, launch, tl, triton

NUM_WARPS = 4
MERGE_WARPS = 1

# partitions, at most, whose loads are under way together, and parts of a head that are merged apart
AHEAD = 32
SLICES = 2

# up to so many partitions, two programs share one; up to so many programs start before the last kernel's end
FEW = 64
OVERLAPPED = 128


@triton.jit
def attend_partition(
    q, cache_ptr, table, kv_head, kv_heads, begin, position, column, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, WIDE: tl.constexpr, PAGE: tl.constexpr, LINES: tl.constexpr,
    KV_BLOCK: tl.constexpr, PARTITION: tl.constexpr,
):  # fmt: skip
    """Lines q [LINES, BLOCK_D] of one row over the partition that begins at `begin`.

    Gives m, total, and WIDE columns of acc from `column` on: none of them depends on the others.
    """
    d = tl.arange(0, BLOCK_D)
    inside = d < D
    columns = column + tl.arange(0, WIDE)
    given = columns < D
    width = kv_heads * D
    m = tl.full([LINES], float("-inf"), tl.float32)
    total = tl.zeros([LINES], tl.float32)
    acc = tl.zeros([LINES, WIDE], tl.float32)
    keys = cache_ptr + kv_head * D
    at = begin + tl.arange(0, KV_BLOCK)
    page = tl.load(table + at // PAGE, mask=at <= position, other=0)
    for _ in range(begin, min(begin + PARTITION, position + 1), KV_BLOCK):
        seen = at <= position
        place = (page.to(tl.int64) * PAGE + at % PAGE) * (2 * width)
        k = tl.load(keys + place[:, None] + d, mask=seen[:, None] & inside[None, :], other=0.0)
        mask = seen[:, None] & given[None, :]
        v = tl.load(keys + width + place[:, None] + columns, mask=mask, other=0.0)
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
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, SHARES: tl.constexpr, PAGE: tl.constexpr,
    LINES: tl.constexpr, KV_BLOCK: tl.constexpr, PARTITION: tl.constexpr, EVERY: tl.constexpr,
    OVERLAPS: tl.constexpr,
):  # fmt: skip
    kv_head, part, single = tl.program_id(0) // SHARES, tl.program_id(1), tl.program_id(2).to(tl.int64)
    wait_for_previous(OVERLAPS)
    # only now: the next kernel reads what the one before this wrote
    let_next_start(OVERLAPS)
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
    WIDE: tl.constexpr = BLOCK_D // SHARES
    column = tl.program_id(0) % SHARES * WIDE
    m, total, acc = attend_partition(
        q, cache_ptr, tables_ptr + seq * tables_stride, kv_head, kv_heads, begin, position, column, scale,
        D, BLOCK_D, WIDE, PAGE, LINES, KV_BLOCK, PARTITION,
    )  # fmt: skip
    kept = tl.arange(0, LINES) < GROUP
    place = (single * parts + part) * (kv_heads * GROUP) + head
    if column == 0:
        tl.store(state_ptr + place * 2, m, mask=kept)
        tl.store(state_ptr + place * 2 + 1, total, mask=kept)
    d = column + tl.arange(0, WIDE)
    tl.store(acc_ptr + place[:, None] * D + d, acc, mask=kept[:, None] & (d < D)[None, :])


@triton.jit(do_not_specialize=["parts"])
def _merge_kernel(
    seq_ptr, positions_ptr, singles_ptr, acc_ptr, state_ptr, out_ptr, out_stride, heads, parts,
    D: tl.constexpr, WIDE: tl.constexpr, SLICES: tl.constexpr, PARTITION: tl.constexpr, EVERY: tl.constexpr,
    AHEAD: tl.constexpr, OVERLAPS: tl.constexpr,
):  # fmt: skip
    head, single = tl.program_id(0) // SLICES, tl.program_id(1).to(tl.int64)
    let_next_start(OVERLAPS)
    row = single if EVERY else tl.load(singles_ptr + single * 4).to(tl.int64)
    seq = tl.load(seq_ptr + row)
    position = tl.load(positions_ptr + row).to(tl.int32)
    wait_for_previous(OVERLAPS)
    if seq < 0:
        return

    d = tl.program_id(0) % SLICES * WIDE + tl.arange(0, WIDE)
    inside = d < D
    m = tl.full([1], float("-inf"), tl.float32)
    total = tl.zeros([1], tl.float32)
    acc = tl.zeros([1, WIDE], tl.float32)
    count = position // PARTITION + 1
    for first in range(0, count, AHEAD):
        # all of them are under way before the first is waited for; one that is not there changes nothing
        states, accs = (), ()
        for i in tl.static_range(AHEAD):
            there = first + i + tl.arange(0, 1) < count
            place = (single * parts + first + i) * heads + head + tl.arange(0, 1)
            part_m = tl.load(state_ptr + place * 2, mask=there, other=float("-inf"))
            part_total = tl.load(state_ptr + place * 2 + 1, mask=there, other=0.0)
            mask = there[:, None] & inside[None, :]
            part_acc = tl.load(acc_ptr + place[:, None] * D + d, mask=mask, other=0.0)
            states = states + ((part_m, part_total),)  # type: ignore[assignment]  # noqa: RUF005
            accs = accs + (part_acc,)  # type: ignore[assignment]  # noqa: RUF005
        for i in tl.static_range(AHEAD):
            m, total, acc = merge(m, total, acc, states[i][0], states[i][1], accs[i])
    result = tl.div_rn(acc + 0.0, total[:, None] + tl.zeros([1, WIDE], tl.float32))
    place = row * out_stride + head * D + d
    tl.store(out_ptr + place[None, :], narrow(result, out_ptr.dtype.element_ty), mask=inside[None, :])


def _stages(sequences: int, group: int, head_dim: int) -> int:
    """Blocks of KV under way together: few programs need more each, of many several share a processor."""
    return 3 if sequences < 16 and group <= 16 and head_dim <= 128 else 2


def _shares(programs: int, head_dim: int) -> int:
    """Programs that share a partition: each takes all of its keys and as many columns of its values."""
    return 2 if programs <= FEW and 64 <= head_dim <= 128 else 1


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
    size, programs = len(singles) * parts * heads, len(singles) * parts * kv_heads
    # then the table need not be waited for
    every = len(singles) == q.shape[0]
    acc = DeviceArray(scratch.address, "float32", (size, head_dim))
    state = DeviceArray(scratch.address + size * head_dim * 4, "float32", (size, 2))
    shares, overlaps = _shares(programs, head_dim), can_overlap()
    # more would come to lie unevenly on processors that are not free yet
    early = overlaps and programs <= OVERLAPPED
    launch(
        _partition_kernel, (kv_heads * shares, parts, len(singles)), q, cache, block_tables, row_seq,
        positions, singles, acc, state, scale * LOG2E, q.strides[0], block_tables.strides[0], kv_heads, parts,
        GROUP=group, D=head_dim, BLOCK_D=block_d, SHARES=shares, PAGE=cache.shape[1],
        LINES=max(16, triton.next_power_of_2(group)), KV_BLOCK=KV_BLOCK, PARTITION=PARTITION, EVERY=every,
        OVERLAPS=overlaps, num_warps=NUM_WARPS,
        num_stages=_stages(len(singles) * kv_heads, group, head_dim), overlaps=early,
    )  # fmt: skip
    launch(
        _merge_kernel, (heads * SLICES, len(singles)), row_seq, positions, singles, acc, state, out,
        out.strides[0], heads, parts, D=head_dim, WIDE=block_d // SLICES, SLICES=SLICES, PARTITION=PARTITION,
        EVERY=every, AHEAD=min(AHEAD, triton.next_power_of_2(parts)), OVERLAPS=overlaps,
        num_warps=MERGE_WARPS, overlaps=overlaps,
    )  # fmt: skip

"""Tiles of attention that came out infinite or NaN, done again a row at a time.

In a tile a row shares blocks of KV with rows after it. What it does not see has a weight of 0, which hides
any finite value, but 0 times an infinity is NaN: such a tile is done again, each row over the positions that
it sees and no others, as `attention_decode.py` does a single row. Which tiles are, the device alone knows.
"""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.attention_decode import attend_partition
from detrec.kernels.gpu.attention_softmax import KV_BLOCK, LOG2E, PARTITION, merge
from detrec.kernels.gpu.portable import narrow
from detrec.kernels.launch import launch, tl, triton

NUM_WARPS = 4


@triton.jit(do_not_specialize=["tables_stride"])
def _again_kernel(
    q_ptr, cache_ptr, tables_ptr, seq_ptr, positions_ptr, tiles_ptr, flags_ptr, out_ptr, scale, q_stride,
    out_stride, tables_stride, kv_heads,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr, LINES: tl.constexpr,
    KV_BLOCK: tl.constexpr, PARTITION: tl.constexpr, TILE_LINES: tl.constexpr,
):  # fmt: skip
    kv_head, tile = tl.program_id(0), tl.program_id(1).to(tl.int64)
    flags = flags_ptr + (tile * kv_heads + kv_head) * 2
    if tl.load(flags) + tl.load(flags + 1) == 0:
        return

    top = tl.load(tiles_ptr + tile * 4).to(tl.int64)
    rows = tl.load(tiles_ptr + tile * 4 + 1)
    first_line = tl.load(tiles_ptr + tile * 4 + 3)
    table = tables_ptr + tl.load(seq_ptr + top).to(tl.int64) * tables_stride
    line = tl.arange(0, LINES)
    d = tl.arange(0, BLOCK_D)
    inside = d < D
    end = tl.minimum((first_line + TILE_LINES - 1) // GROUP + 1, rows)
    for at in range(first_line // GROUP, end):
        row = top + at
        position = tl.load(positions_ptr + row).to(tl.int32)
        column = (kv_head * GROUP + tl.minimum(line, GROUP - 1)) * D
        q = tl.load(q_ptr + row * q_stride + column[:, None] + d, mask=inside[None, :], other=0.0)
        m = tl.full([LINES], float("-inf"), tl.float32)
        total = tl.zeros([LINES], tl.float32)
        acc = tl.zeros([LINES, BLOCK_D], tl.float32)
        for begin in range(0, position + 1, PARTITION):
            part_m, part_total, part_acc = attend_partition(
                q, cache_ptr, table, kv_head, kv_heads, begin, position, 0, scale,
                D, BLOCK_D, BLOCK_D, PAGE, LINES, KV_BLOCK, PARTITION,
            )  # fmt: skip
            m, total, acc = merge(m, total, acc, part_m, part_total, part_acc)
        result = tl.div_rn(acc + 0.0, total[:, None] + tl.zeros([LINES, BLOCK_D], tl.float32))
        # a row may begin in one tile and end in the next: either does its own lines
        own = at * GROUP + line
        mine = (line < GROUP) & (own >= first_line) & (own < first_line + TILE_LINES)
        place = row * out_stride + column[:, None] + d
        tl.store(
            out_ptr + place, narrow(result, out_ptr.dtype.element_ty), mask=mine[:, None] & inside[None, :]
        )


def attend_again(
    q: DeviceArray, cache: DeviceArray, block_tables: DeviceArray, row_seq: DeviceArray,
    positions: DeviceArray, tiles: DeviceArray, tile_lines: int, flags: DeviceArray, scale: float,
    out: DeviceArray, head_dim: int,
) -> None:  # fmt: skip
    """The lines of those of `tiles`, int32 [T, 4], that `flags`, int32 [T, kv_heads, 2], says not to be 0."""
    kv_heads, group = cache.shape[3] // head_dim, q.shape[1] // cache.shape[3]
    launch(
        _again_kernel, (kv_heads, len(tiles)), q, cache, block_tables, row_seq, positions, tiles, flags, out,
        scale * LOG2E, q.strides[0], out.strides[0], block_tables.strides[0], kv_heads, GROUP=group,
        D=head_dim, BLOCK_D=triton.next_power_of_2(head_dim), PAGE=cache.shape[1],
        LINES=max(16, triton.next_power_of_2(group)), KV_BLOCK=KV_BLOCK, PARTITION=PARTITION,
        TILE_LINES=tile_lines, num_warps=NUM_WARPS,
    )  # fmt: skip

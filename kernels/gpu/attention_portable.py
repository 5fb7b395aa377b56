"""Attention in float32 with the very bits of `kernels/cpu/attention.py`.

Invariant: the CPU kernel's order, operation by operation. A block of KV_BLOCK keys takes one `tl.dot` over d
from zero and one over rising positions from acc * alpha, which in IEEE float32 are chains of FMAs; lanes are
summed by the CPU's tree. Positions that a line does not see add zeros, which the last + 0.0 hides; where they
hold an infinity or NaN, the line is done again without them.
"""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import exp32, tree_sum
from detrec.kernels.launch import cdiv, launch, tl, triton

KV_BLOCK = 64
"""Part of the result, and the CPU kernel's."""

# lines of one program, which are pairs of a row and a head; they share nothing but the keys
LINES = 16
NUM_WARPS = 8


@triton.jit
def _attend(
    q, cache_ptr, table, kv_head, kv_heads, position, length, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr, LINES: tl.constexpr, KV_BLOCK: tl.constexpr,
):  # fmt: skip
    """Lines q [LINES, BLOCK_D] at `position` [LINES], over the first `length` positions."""
    d = tl.arange(0, BLOCK_D)
    inside = d < D
    width = kv_heads * D
    lane = tl.arange(0, KV_BLOCK)
    m = tl.full([LINES], float("-inf"), tl.float32)
    total = tl.zeros([LINES], tl.float32)
    acc = tl.zeros([LINES, BLOCK_D], tl.float32)
    for first in range(0, length, KV_BLOCK):
        at = first + lane
        seen = at < length
        page = tl.load(table + at // PAGE, mask=seen, other=0).to(tl.int64)
        place = (page * PAGE + at % PAGE) * (2 * width) + kv_head * D
        mask = seen[:, None] & inside[None, :]
        k = tl.load(cache_ptr + place[:, None] + d, mask=mask, other=0.0)
        v = tl.load(cache_ptr + width + place[:, None] + d, mask=mask, other=0.0)
        s = scale * tl.dot(q, tl.trans(k), input_precision="ieee")
        s = tl.where(at[None, :] <= position[:, None], s, float("-inf"))
        new = tl.maximum(m, tl.max(s, axis=1))
        p = exp32(s - new[:, None])
        alpha = exp32(m - new)
        total = total * alpha + tree_sum(p, KV_BLOCK)
        acc = tl.dot(p, v, acc * alpha[:, None], input_precision="ieee")
        m = new
    return tl.div_rn(acc + 0.0, total[:, None] + tl.zeros([LINES, BLOCK_D], tl.float32))


@triton.jit
def _portable_kernel(
    q_ptr, cache_ptr, tables_ptr, seq_ptr, positions_ptr, tiles_ptr, out_ptr, scale, q_stride, out_stride,
    tables_stride, kv_heads,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, PAGE: tl.constexpr, LINES: tl.constexpr,
    KV_BLOCK: tl.constexpr,
):  # fmt: skip
    kv_head = tl.program_id(0)
    tile = tl.program_id(1).to(tl.int64)
    top = tl.load(tiles_ptr + tile * 4).to(tl.int64)
    lines = tl.load(tiles_ptr + tile * 4 + 1) * GROUP
    first_line = tl.load(tiles_ptr + tile * 4 + 3) + tl.program_id(2) * LINES
    seq = tl.load(seq_ptr + top).to(tl.int64)
    if seq < 0 or first_line >= lines:
        return

    # lines past the slice's last repeat it and are not stored
    line = first_line + tl.arange(0, LINES)
    valid = line < lines
    line = tl.minimum(line, lines - 1)
    row = top + line // GROUP
    position = tl.load(positions_ptr + row).to(tl.int32)
    last = tl.max(position, axis=0)
    d = tl.arange(0, BLOCK_D)
    inside = d < D
    column = (kv_head * GROUP + line % GROUP) * D
    q = tl.load(q_ptr + row[:, None] * q_stride + column[:, None] + d, mask=inside[None, :], other=0.0)
    table = tables_ptr + seq * tables_stride
    result = _attend(
        q, cache_ptr, table, kv_head, kv_heads, position, last + 1, scale, D, BLOCK_D, PAGE, LINES, KV_BLOCK
    )
    if tl.max(tl.max(tl.where(tl.abs(result) < float("inf"), 0, 1), axis=1), axis=0) > 0:
        # an infinity in what a line does not see is no zero to it: again, up to each line's own position
        for end in range(tl.min(position, axis=0), last):
            again = _attend(
                q, cache_ptr, table, kv_head, kv_heads, position, end + 1, scale,
                D, BLOCK_D, PAGE, LINES, KV_BLOCK,
            )  # fmt: skip
            result = tl.where((position == end)[:, None], again, result)
    mask = valid[:, None] & inside[None, :]
    tl.store(out_ptr + row[:, None] * out_stride + column[:, None] + d, result, mask=mask)


def attend_portable(
    q: DeviceArray, cache: DeviceArray, block_tables: DeviceArray, row_seq: DeviceArray,
    positions: DeviceArray, tiles: DeviceArray, tile_lines: int, scale: float, out: DeviceArray,
    head_dim: int,
) -> None:  # fmt: skip
    """`tile_lines` lines of each of `tiles`, int32 [T, 4]. All float32."""
    kv_heads = cache.shape[3] // head_dim
    group = q.shape[1] // cache.shape[3]
    launch(
        _portable_kernel, (kv_heads, len(tiles), cdiv(tile_lines, LINES)), q, cache, block_tables,
        row_seq, positions, tiles, out, scale, q.strides[0], out.strides[0], block_tables.strides[0],
        kv_heads, GROUP=group, D=head_dim, BLOCK_D=max(16, triton.next_power_of_2(head_dim)),
        PAGE=cache.shape[1], LINES=LINES, KV_BLOCK=KV_BLOCK, num_warps=NUM_WARPS,
    )  # fmt: skip

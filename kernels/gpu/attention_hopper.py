"""Tiles of attention on a Hopper GPU: one warp fetches KV, two warpgroups take half of the lines each.

Invariant: that of `attention_prefill.py`, whose arithmetic this repeats operation by operation. While one
warpgroup is in its softmax the other multiplies; when each of them runs moves no bit. Written in Gluon,
Triton's lower level, because it needs to say what each warp does.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.attention_softmax import KV_BLOCK, LOG2E, PARTITION
from detrec.kernels.gpu.tma import after, barriers, load
from detrec.kernels.launch import launch, triton

HALF = gl.constexpr(64)
"""Lines of a warpgroup: a tile has two halves."""

NUM_WARPS = 4

# keys and values of so many blocks fit beside the queries, for heads of up to 128
STAGES = 2

NOTHING = gl.constexpr(float("-inf"))


@gluon.jit
def _fetch(keys, values, ks, vs, full, empty, base, length, KV_BLOCK: gl.constexpr, STAGES: gl.constexpr):
    """Bring blocks of keys and values to shared memory; the barriers of values come after those of keys."""
    NBYTES: gl.constexpr = KV_BLOCK * ks.shape[2] * 2
    stage = 0
    phase = 1
    for first in range(0, length, KV_BLOCK):
        mbarrier.wait(empty.index(stage), phase)
        mbarrier.expect(full.index(stage), NBYTES)
        load(keys, [base + first, 0], full.index(stage), ks.index(stage))
        mbarrier.wait(empty.index(STAGES + stage), phase)
        mbarrier.expect(full.index(STAGES + stage), NBYTES)
        load(values, [base + first, 0], full.index(STAGES + stage), vs.index(stage))
        stage, phase = after(stage, phase, STAGES)


@gluon.jit
def _column(x, LAYOUT: gl.constexpr):
    """x [M] as [M, 1], to be broadcast over a tensor of LAYOUT."""
    return gl.expand_dims(gl.convert_layout(x, gl.SliceLayout(1, LAYOUT)), 1)


@gluon.jit
def _merge(m, total, acc, part_m, part_total, part_acc):
    """`attention_softmax.merge`."""
    new = gl.maximum(m, part_m)
    base = gl.where(new == NOTHING, 0.0, new)
    a, b = gl.exp2(m - base), gl.exp2(part_m - base)
    LAYOUT: gl.constexpr = acc.type.layout
    acc = acc * _column(a, LAYOUT) + part_acc * _column(b, LAYOUT)
    return new, total * a + part_total * b, acc


@gluon.jit
def _softmax(s, m, total, scale):
    """What `attention_softmax.visit` does before it multiplies by values: p, m, total and alpha."""
    new = gl.maximum(m, gl.max(s, axis=1) * scale)
    base = gl.where(new == NOTHING, 0.0, new)
    p = gl.exp2(gl.fma(s, gl.zeros_like(s) + scale, gl.zeros_like(s) - gl.expand_dims(base, 1)))
    alpha = gl.exp2(m - base)
    bits = (p + 1.0).to(gl.int32, bitcast=True)
    total = total * alpha + (gl.sum(bits, axis=1) + (s.shape[1] << 23)).to(gl.float32) * (2.0**-23)
    return p, new, total, alpha


@gluon.jit
def _nothing(ROWS: gl.constexpr, OUT: gl.constexpr, BLOCK_D: gl.constexpr):
    """m, total and acc of lines that have seen no position."""
    m = gl.full([HALF], NOTHING, gl.float32, ROWS)
    return m, gl.zeros([HALF], gl.float32, ROWS), gl.zeros([HALF, BLOCK_D], gl.float32, OUT)


@gluon.jit
def _take(
    q_ptr, queries, begin, top, lines, kv_head, q_stride, MEMORY: gl.constexpr, GROUP: gl.constexpr,
    D: gl.constexpr, BLOCK_D: gl.constexpr,
):  # fmt: skip
    """Bring the queries of half a tile to shared memory."""
    # lines past the slice's last repeat it and are not stored
    line = gl.minimum(begin + gl.arange(0, HALF, gl.SliceLayout(1, MEMORY)), lines - 1)
    at = (top + line // GROUP).to(gl.int64) * q_stride + (kv_head * GROUP + line % GROUP) * D
    d = gl.expand_dims(gl.arange(0, BLOCK_D, gl.SliceLayout(0, MEMORY)), 0)
    q = gl.load(q_ptr + gl.expand_dims(at, 1) + d, mask=d < D, other=0.0)
    queries.store(q)
    fence_async_shared()


@gluon.jit
def _give(
    out_ptr, queries, result, begin, top, lines, kv_head, out_stride, MEMORY: gl.constexpr,
    GROUP: gl.constexpr, D: gl.constexpr, BLOCK_D: gl.constexpr,
):  # fmt: skip
    """Write the lines of half a tile: through the memory of the queries, so that whole rows are written."""
    queries.store(result.to(out_ptr.dtype.element_ty))
    result = queries.load(MEMORY)
    line = begin + gl.arange(0, HALF, gl.SliceLayout(1, MEMORY))
    at = (top + line // GROUP).to(gl.int64) * out_stride + (kv_head * GROUP + line % GROUP) * D
    d = gl.expand_dims(gl.arange(0, BLOCK_D, gl.SliceLayout(0, MEMORY)), 0)
    valid = (gl.expand_dims(line, 1) < lines) & (d < D)
    gl.store(out_ptr + gl.expand_dims(at, 1) + d, result, mask=valid)


@gluon.jit
def _attend(
    q_ptr, out_ptr, flag_ptr, qs, ks, vs, full, empty, top, lines, first_line, start, length, kv_head, scale,
    q_stride, out_stride, half: gl.constexpr, GROUP: gl.constexpr, D: gl.constexpr, BLOCK_D: gl.constexpr,
    KV_BLOCK: gl.constexpr, PARTITION: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """One half of the tile."""
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, KV_BLOCK, 16])
    OUT: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_D, 16])
    ROWS: gl.constexpr = gl.SliceLayout(1, SCORES)
    MEMORY: gl.constexpr = gl.BlockedLayout([1, 8], [256 // BLOCK_D, BLOCK_D // 8], [4, 1], [1, 0])
    dtype: gl.constexpr = q_ptr.dtype.element_ty
    begin = first_line + half * HALF
    queries = qs.index(half)
    _take(q_ptr, queries, begin, top, lines, kv_head, q_stride, MEMORY, GROUP, D, BLOCK_D)

    position = start + gl.minimum(begin + gl.arange(0, HALF, ROWS), lines - 1) // GROUP
    # positions that every line sees
    common = start + gl.minimum(begin, lines - 1) // GROUP + 1
    lane = gl.arange(0, KV_BLOCK, gl.SliceLayout(0, SCORES))
    none = gl.zeros([HALF, KV_BLOCK], gl.float32, SCORES)
    m, total, acc = _nothing(ROWS, OUT, BLOCK_D)
    part_m, part_total, part_acc = _nothing(ROWS, OUT, BLOCK_D)
    stage = 0
    phase = 0
    for first in range(0, length, KV_BLOCK):
        mbarrier.wait(full.index(stage), phase)
        s = warpgroup_mma(queries, ks.index(stage).permute((1, 0)), none, use_acc=False, is_async=True)
        s = warpgroup_mma_wait(0, deps=[s])
        mbarrier.arrive(empty.index(stage))
        if first + KV_BLOCK > common:
            s = gl.where(gl.expand_dims(first + lane, 0) <= gl.expand_dims(position, 1), s, NOTHING)
        p, part_m, part_total, alpha = _softmax(s, part_m, part_total, scale)
        p = gl.convert_layout(p.to(dtype), gl.DotOperandLayout(0, OUT, 2))
        part_acc = part_acc * _column(alpha, OUT)
        mbarrier.wait(full.index(STAGES + stage), phase)
        part_acc = warpgroup_mma(p, vs.index(stage), part_acc, is_async=True)
        part_acc = warpgroup_mma_wait(0, deps=[part_acc])
        mbarrier.arrive(empty.index(STAGES + stage))
        if (first + KV_BLOCK) % PARTITION == 0:
            m, total, acc = _merge(m, total, acc, part_m, part_total, part_acc)
            part_m, part_total, part_acc = _nothing(ROWS, OUT, BLOCK_D)
        stage, phase = after(stage, phase, STAGES)
    m, total, acc = _merge(m, total, acc, part_m, part_total, part_acc)

    result = gl.div_rn(acc + 0.0, _column(total, OUT) + gl.zeros_like(acc))
    bad = gl.where(gl.abs(result) < -NOTHING, 0, 1)
    gl.store(flag_ptr + half, gl.max(gl.max(bad, axis=1), axis=0))
    _give(out_ptr, queries, result, begin, top, lines, kv_head, out_stride, MEMORY, GROUP, D, BLOCK_D)


@gluon.jit
def _tile_kernel(
    q_ptr, positions_ptr, tiles_ptr, keys, values, out_ptr, flags_ptr, scale, q_stride, out_stride, capacity,
    GROUP: gl.constexpr, D: gl.constexpr, BLOCK_D: gl.constexpr, KV_BLOCK: gl.constexpr,
    PARTITION: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    kv_head = gl.program_id(0)
    tile = gl.program_id(1)
    flag_ptr = flags_ptr + (tile * gl.num_programs(0) + kv_head) * 2
    top = gl.load(tiles_ptr + tile * 4)
    lines = gl.load(tiles_ptr + tile * 4 + 1) * GROUP
    base = kv_head * capacity + gl.load(tiles_ptr + tile * 4 + 2)
    first_line = gl.load(tiles_ptr + tile * 4 + 3)
    start = gl.load(positions_ptr + top).to(gl.int32)
    length = start + gl.minimum(first_line + 2 * HALF - 1, lines - 1) // GROUP + 1

    dtype: gl.constexpr = keys.dtype
    SHARED: gl.constexpr = gl.NVMMASharedLayout.get_default_for([HALF, BLOCK_D], dtype)
    qs = gl.allocate_shared_memory(dtype, [2, HALF, BLOCK_D], SHARED)
    ks = gl.allocate_shared_memory(dtype, [STAGES, KV_BLOCK, BLOCK_D], keys.layout)
    vs = gl.allocate_shared_memory(dtype, [STAGES, KV_BLOCK, BLOCK_D], values.layout)
    full, empty = barriers(2 * STAGES)
    gl.warp_specialize(
        [
            (
                _attend,
                (
                    q_ptr, out_ptr, flag_ptr, qs, ks, vs, full, empty, top, lines, first_line, start, length,
                    kv_head, scale, q_stride, out_stride, 0, GROUP, D, BLOCK_D, KV_BLOCK, PARTITION, STAGES,
                ),
            ),
            (
                _attend,
                (
                    q_ptr, out_ptr, flag_ptr, qs, ks, vs, full, empty, top, lines, first_line, start, length,
                    kv_head, scale, q_stride, out_stride, 1, GROUP, D, BLOCK_D, KV_BLOCK, PARTITION, STAGES,
                ),
            ),
            (_fetch, (keys, values, ks, vs, full, empty, base, length, KV_BLOCK, STAGES)),
        ],
        [4, 1],
        # registers of a thread: two accumulators and the scores take 192, fetching needs next to none
        [240, 24],
    )  # fmt: skip


def hopper_tiles(
    q: DeviceArray, positions: DeviceArray, tiles: DeviceArray, gathered: DeviceArray, flags: DeviceArray,
    scale: float, out: DeviceArray, head_dim: int,
) -> None:  # fmt: skip
    """The lines of `tiles` as `attend_tiles` does them, over gathered KV [2, kv_heads, positions, D]."""
    _, kv_heads, capacity, _ = gathered.shape
    block_d = triton.next_power_of_2(head_dim)
    layout = gl.NVMMASharedLayout.get_default_for([KV_BLOCK, block_d], getattr(gl, q.dtype))
    keys, values = (
        TensorDescriptor(half, [kv_heads * capacity, head_dim], [head_dim, 1], [KV_BLOCK, block_d], layout)
        for half in (gathered[0], gathered[1])
    )
    launch(
        _tile_kernel, (kv_heads, len(tiles)), q, positions, tiles, keys, values, out, flags,
        scale * LOG2E, q.strides[0], out.strides[0], capacity, GROUP=q.shape[1] // (kv_heads * head_dim),
        D=head_dim, BLOCK_D=block_d, KV_BLOCK=KV_BLOCK, PARTITION=PARTITION, STAGES=STAGES,
        num_warps=NUM_WARPS,
    )  # fmt: skip

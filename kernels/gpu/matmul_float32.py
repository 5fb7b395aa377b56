"""The float32 matmul of a GPU that has TMA: every element is one FMA chain.

Invariant: an element starts at 0.0, takes fma(x[k], w[k], element) for k in rising order, then one addition
of the bias: the bits of `kernels/cpu/matmul.py`. A tile only decides which chains run side by side.

Written in Gluon, Triton's lower level, because it needs to say which thread owns which element: neighbouring
threads own neighbouring columns, so that what they read of shared memory lies in different banks.
"""

import functools
from typing import NamedTuple

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import carry
from detrec.kernels.gpu.tma import after, leaves_of, load
from detrec.kernels.launch import cdiv, launch

# its name since Triton 3.7, and in 3.6
_barrier = gl.barrier if hasattr(gl, "barrier") else gl.thread_barrier

_carry = gluon.jit(carry.fn)

DEPTH = gl.constexpr(32)
"""k of one stage: 128 bytes, as wide as TMA swizzles."""

SLICE = gl.constexpr(16)
"""k that are held in registers at a time."""


class Tile(NamedTuple):
    """Rows of x by rows of the weight; threads of a warp and warps of a program, down and across."""

    rows: int
    cols: int
    stages: int
    threads: tuple[int, int]
    warps: tuple[int, int]


@gluon.jit
def _fetch(x_desc, w_desc, xs, ws, full, stage, top, left, leaf, start, depth, LEAVES: gl.constexpr):
    """Bring k from `start` of a leaf to a stage, if there is such a leaf; gives what comes next."""
    here, inside = full.index(stage), leaf < LEAVES
    mbarrier.expect(here, (xs.shape[2] + ws.shape[2]) * DEPTH * 4, pred=inside)
    load(x_desc, [leaf, top, start], here, xs.index(stage), pred=inside)
    load(w_desc, [leaf, left, start], here, ws.index(stage), pred=inside)
    start += DEPTH
    if start >= depth:
        start = 0
        leaf += 1
    return leaf, start


@gluon.jit
def _multiply(total, xs, ws, stage, layout: gl.constexpr):
    """The chains in `total`, gone on with over k of one stage."""
    xt = xs.index(stage).reshape([total.shape[0], DEPTH])
    wt = ws.index(stage).reshape([total.shape[1], DEPTH])
    for part in gl.static_range(DEPTH // SLICE):
        x = xt.slice(part * SLICE, SLICE, dim=1)
        w = wt.slice(part * SLICE, SLICE, dim=1).permute((1, 0))
        left_side = x.load(gl.DotOperandLayout(0, layout, 0))
        total = gl.dot_fma(left_side, w.load(gl.DotOperandLayout(1, layout, 0)), total)
    return total


@gluon.jit
def _write(out_ptr, bias_ptr, total, top, left, rows, cols, out_row, layout: gl.constexpr):
    """A tile with its bias, as far as it lies in out."""
    ROWS: gl.constexpr = total.shape[0]
    COLS: gl.constexpr = total.shape[1]
    row = gl.expand_dims(top + gl.arange(0, ROWS, gl.SliceLayout(1, layout)), 1)
    col = gl.expand_dims(left + gl.arange(0, COLS, gl.SliceLayout(0, layout)), 0)
    if bias_ptr is not None:
        total += gl.load(bias_ptr + col, mask=col < cols, other=0.0)
    gl.store(out_ptr + row.to(gl.int64) * out_row + col, total, mask=(row < rows) & (col < cols))


@gluon.jit(do_not_specialize=["rows"])
def _float32_kernel(
    x_desc, w_desc, bias_ptr, out_ptr, rows, cols, depth, out_row, LEAVES: gl.constexpr, ROWS: gl.constexpr,
    COLS: gl.constexpr, STAGES: gl.constexpr, THREADS_DOWN: gl.constexpr, THREADS_ACROSS: gl.constexpr,
    WARPS_DOWN: gl.constexpr, WARPS_ACROSS: gl.constexpr,
):  # fmt: skip
    layout: gl.constexpr = gl.BlockedLayout(
        [1, 1], [THREADS_DOWN, THREADS_ACROSS], [WARPS_DOWN, WARPS_ACROSS], [1, 0]
    )
    xs = gl.allocate_shared_memory(gl.float32, [STAGES, 1, ROWS, DEPTH], x_desc.layout)
    ws = gl.allocate_shared_memory(gl.float32, [STAGES, 1, COLS, DEPTH], w_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
    fence_async_shared()
    _barrier()
    top = gl.program_id(1) * ROWS
    left = gl.program_id(0) * COLS
    leaf_ahead = 0
    ahead = 0
    for stage in gl.static_range(STAGES - 1):
        leaf_ahead, ahead = _fetch(
            x_desc, w_desc, xs, ws, full, stage, top, left, leaf_ahead, ahead, depth, LEAVES
        )

    total = gl.zeros([ROWS, COLS], gl.float32, layout)
    one = total
    two = total
    four = total
    stage = 0
    phase = 0
    free = STAGES - 1
    for leaf in range(LEAVES):
        if LEAVES > 1:
            total = gl.zeros([ROWS, COLS], gl.float32, layout)
        for _ in range(0, depth, DEPTH):
            # every warp has read the stage that is filled next
            _barrier()
            leaf_ahead, ahead = _fetch(
                x_desc, w_desc, xs, ws, full, free, top, left, leaf_ahead, ahead, depth, LEAVES
            )
            free = stage
            mbarrier.wait(full.index(stage), phase)
            total = _multiply(total, xs, ws, stage, layout)
            stage, phase = after(stage, phase, STAGES)
        if LEAVES > 1:
            total, one, two, four = _carry(total, one, two, four, leaf)
    _write(out_ptr, bias_ptr, total, top, left, rows, cols, out_row, layout)


@functools.lru_cache(maxsize=1 << 12)
def tile_of(rows: int, cols: int, leaves: int = 1) -> Tile:
    """Few rows: many programs of one warp, to read the weight fast. Many: 8 x 8 elements a thread.

    With several leaves 8 x 4, because registers then hold up to four sums.
    """
    if rows <= 16:
        return Tile(8, 32, 12, (1, 32), (1, 1))
    if rows <= 32:
        return Tile(32, 16, 8, (4, 8), (2, 1))
    if rows <= 64:
        return Tile(32, 32, 6, (4, 8), (2, 2))
    if leaves > 1 or cdiv(rows, 128) * cdiv(cols, 128) < 512:
        return Tile(64, 64, 4, (4, 8), (2, 2))
    return Tile(128, 128, 4, (4, 8), (4, 2))


def float32_rows(
    x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None, out: DeviceArray,
    tile: Tile | None = None, leaves: int = 1,
) -> None:  # fmt: skip
    """out = x @ W^T + bias, all float32; TMA must reach x and weight."""
    (rows, depth), cols = x.shape, weight.shape[0]
    tile = tile or tile_of(rows, cols, leaves)
    threads, warps = tile.threads, tile.warps
    launch(
        _float32_kernel, (-(-cols // tile.cols), -(-rows // tile.rows)),
        leaves_of(x, leaves, tile.rows, DEPTH.value), leaves_of(weight, leaves, tile.cols, DEPTH.value),
        bias, out, rows, cols, depth // leaves, out.strides[0], LEAVES=leaves, ROWS=tile.rows,
        COLS=tile.cols, STAGES=tile.stages, THREADS_DOWN=threads[0], THREADS_ACROSS=threads[1],
        WARPS_DOWN=warps[0], WARPS_ACROSS=warps[1], num_warps=warps[0] * warps[1],
    )  # fmt: skip

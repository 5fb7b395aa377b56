"""The matmul for many rows on a Hopper GPU: one warp fetches tiles, two warpgroups multiply them.

Invariant: that of `matmul_plain`. A warpgroup adds the tensor core's products in the order of k into
registers that it carries through the loop; which warpgroup, and when, moves no bit.

Written in Gluon, Triton's lower level, because it needs to say what each warp does. Programs are persistent:
while one warpgroup stores its tile the other multiplies, and the next tile is fetched meanwhile.
"""

import functools
from typing import NamedTuple

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.launch import cdiv, launch, triton

# their names since Triton 3.7, and in 3.6
_load = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared
_save = tma.async_store if hasattr(tma, "async_store") else tma.async_copy_shared_to_global

HALF = gl.constexpr(64)
"""Rows of x that a warpgroup multiplies: a tile has two halves."""

DEPTH = gl.constexpr(64)
"""k of one stage."""

TILE_ROWS = 2 * HALF.value

GROUP = gl.constexpr(8)
"""Row tiles that are walked through together, so that what they share stays in the L2 cache."""

NUM_WARPS = 4


class Tile(NamedTuple):
    """TILE_ROWS rows of x by `cols` rows of the weight, `stages` deep; the output leaves in `pieces`."""

    cols: int
    stages: int
    pieces: int


TILES = {Tile(256, 4, 2): 1.0, Tile(128, 6, 1): 0.52, Tile(64, 8, 1): 0.333, Tile(32, 8, 1): 0.29}
"""The time of a tile on an H100 in times of the widest: one twice as narrow takes more than half."""


@gluon.jit
def _place(tile, row_tiles, col_tiles):
    """Row and column of the tile that is walked through as number `tile`."""
    width = GROUP * col_tiles
    first = tile // width * GROUP
    height = gl.minimum(row_tiles - first, GROUP)
    rest = tile % width
    return first + rest % height, rest // height


@gluon.jit
def _fetch(x_desc, w_desc, xs, ws, full, empty, rows, cols, depth, COLS: gl.constexpr, STAGES: gl.constexpr):
    """Bring tiles of x and weight to shared memory, in the order in which `_multiply` takes them."""
    row_tiles, col_tiles = gl.cdiv(rows, 2 * HALF), gl.cdiv(cols, COLS)
    stage = 0
    phase = 1
    for tile in range(gl.program_id(0), row_tiles * col_tiles, gl.num_programs(0)):
        i, j = _place(tile, row_tiles, col_tiles)
        top = i * 2 * HALF
        for start in range(0, depth, DEPTH):
            here = full.index(stage)
            mbarrier.wait(empty.index(stage), phase)
            mbarrier.expect(here, (2 * HALF + COLS) * DEPTH * 2)
            _load(x_desc, [top, start], here, xs.index(stage * 2))
            _load(w_desc, [j * COLS, start], here, ws.index(stage))
            _load(x_desc, [top + HALF, start], here, xs.index(stage * 2 + 1))
            stage += 1
            if stage == STAGES:
                stage = 0
                phase ^= 1


@gluon.jit
def _store(total, bias_ptr, out_desc, place, row, col, cols, PIECES: gl.constexpr):
    """Add the bias and store, a piece of the columns at a time, because shared memory is full of tiles."""
    WIDTH: gl.constexpr = total.shape[1]
    if PIECES > 1:
        left, right = total.reshape([HALF, 2, WIDTH // 2]).permute(0, 2, 1).split()
        _store(left, bias_ptr, out_desc, place, row, col, cols, PIECES // 2)
        _store(right, bias_ptr, out_desc, place, row, col + WIDTH // 2, cols, PIECES // 2)
    else:
        if bias_ptr is not None:
            c = col + gl.arange(0, WIDTH, gl.SliceLayout(0, total.type.layout))
            total += gl.expand_dims(gl.load(bias_ptr + c, mask=c < cols, other=0.0), 0)
        # the piece before may still be on its way out of `place`
        tma.store_wait(0)
        place.store(total.to(out_desc.dtype))
        fence_async_shared()
        _save(out_desc, [row, col], place)


@gluon.jit
def _multiply(
    out_desc, bias_ptr, xs, ws, outs, full, empty, rows, cols, depth, half: gl.constexpr, COLS: gl.constexpr,
    STAGES: gl.constexpr, PIECES: gl.constexpr,
):  # fmt: skip
    """One warpgroup: half of the rows of each tile of this program."""
    row_tiles, col_tiles = gl.cdiv(rows, 2 * HALF), gl.cdiv(cols, COLS)
    layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, COLS, 16])
    stage = 0
    before = 0
    phase = 0
    for tile in range(gl.program_id(0), row_tiles * col_tiles, gl.num_programs(0)):
        i, j = _place(tile, row_tiles, col_tiles)
        total = gl.zeros([HALF, COLS], gl.float32, layout)
        for start in range(0, depth, DEPTH):
            mbarrier.wait(full.index(stage), phase)
            x, w = xs.index(stage * 2 + half), ws.index(stage).permute((1, 0))
            total = warpgroup_mma(x, w, total, is_async=True)
            # all but the newest product are done: their stage may be filled again
            total = warpgroup_mma_wait(1, deps=[total])
            mbarrier.arrive(empty.index(before), pred=start > 0)
            before = stage
            stage += 1
            if stage == STAGES:
                stage = 0
                phase ^= 1
        total = warpgroup_mma_wait(0, deps=[total])
        mbarrier.arrive(empty.index(before))
        row = i * 2 * HALF + half * HALF
        _store(total, bias_ptr, out_desc, outs.index(half), row, j * COLS, cols, PIECES)
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["rows"])
def _wide_kernel(
    x_desc, w_desc, bias_ptr, out_desc, rows, cols, depth, COLS: gl.constexpr, STAGES: gl.constexpr,
    PIECES: gl.constexpr,
):  # fmt: skip
    xs = gl.allocate_shared_memory(x_desc.dtype, [STAGES * 2, HALF, DEPTH], x_desc.layout)
    ws = gl.allocate_shared_memory(x_desc.dtype, [STAGES, COLS, DEPTH], w_desc.layout)
    outs = gl.allocate_shared_memory(out_desc.dtype, [2, HALF, COLS // PIECES], out_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=2)
    fence_async_shared()
    gl.warp_specialize(
        [
            (
                _multiply,
                (out_desc, bias_ptr, xs, ws, outs, full, empty, rows, cols, depth, 0, COLS, STAGES, PIECES),
            ),
            (
                _multiply,
                (out_desc, bias_ptr, xs, ws, outs, full, empty, rows, cols, depth, 1, COLS, STAGES, PIECES),
            ),
            (_fetch, (x_desc, w_desc, xs, ws, full, empty, rows, cols, depth, COLS, STAGES)),
        ],
        [4, 1],
        # registers of a thread: the accumulator alone takes 128, fetching needs next to none
        [240, 24],
    )


@functools.lru_cache(maxsize=1 << 14)
def _descriptor(address: int, dtype: str, shape: tuple[int, int], stride: int, block: tuple[int, int]):
    """What TMA reads or writes: kept, because to make one takes longer than to launch. It owns no memory."""
    layout = gl.NVMMASharedLayout.get_default_for(list(block), getattr(gl, dtype))
    base = DeviceArray(address, dtype, shape, (stride, 1))
    return TensorDescriptor(base, list(shape), [stride, 1], list(block), layout)


@functools.cache
def _processors() -> int:
    driver = triton.runtime.driver.active
    return driver.utils.get_device_properties(driver.get_current_device())["multiprocessor_count"]


@functools.lru_cache(maxsize=1 << 12)
def tile_of(rows: int, cols: int, processors: int) -> Tile:
    """The tile whose rounds over the processors take the least time."""
    tiles = cdiv(rows, TILE_ROWS)
    return min(TILES, key=lambda tile: TILES[tile] * cdiv(tiles * cdiv(cols, tile.cols), processors))


def wide_rows(
    x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None, out: DeviceArray, tile: Tile | None = None
) -> None:
    """out = x @ W^T + bias, bfloat16 or float16; TMA must reach x, weight and out; any number of rows."""
    (rows, depth), cols = x.shape, weight.shape[0]
    processors = _processors()
    tile = tile or tile_of(rows, cols, processors)
    pieces = tile.pieces * 2 if out.dtype == "float32" else tile.pieces
    programs = min(-(-rows // TILE_ROWS) * -(-cols // tile.cols), processors)
    launch(
        _wide_kernel, (programs,),
        _descriptor(x.address, x.dtype, x.shape, x.strides[0], (HALF.value, DEPTH.value)),
        _descriptor(weight.address, weight.dtype, weight.shape, depth, (tile.cols, DEPTH.value)), bias,
        _descriptor(out.address, out.dtype, out.shape, out.strides[0], (HALF.value, tile.cols // pieces)),
        rows, cols, depth, COLS=tile.cols, STAGES=tile.stages, PIECES=pieces, num_warps=NUM_WARPS,
    )  # fmt: skip

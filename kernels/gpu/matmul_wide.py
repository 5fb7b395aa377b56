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

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.tma import after, barriers, descriptor, leaves_of, load, save
from detrec.kernels.launch import cdiv, launch, processors, triton

_RENAMED = gl.constexpr(hasattr(gl.shared_memory_descriptor, "reinterpret"))

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

LEAF_TILES = {Tile(128, 5, 1): 0.52, Tile(64, 8, 1): 0.333, Tile(32, 8, 1): 0.29}
"""The same for 8 leaves: a thread's registers hold three sums, and shared memory a fourth."""


@gluon.jit
def _place(tile, row_tiles, col_tiles):
    """Row and column of the tile that is walked through as number `tile`."""
    width = GROUP * col_tiles
    first = tile // width * GROUP
    height = gl.minimum(row_tiles - first, GROUP)
    rest = tile % width
    return first + rest % height, rest // height


@gluon.jit
def _fetch(shape, shared, x_desc, w_desc, LEAVES: gl.constexpr, COLS: gl.constexpr, STAGES: gl.constexpr):
    """Bring tiles of x and weight to shared memory, in the order in which `_multiply` takes them."""
    rows, cols, depth = shape
    xs, ws, full, empty, _kept = shared
    row_tiles, col_tiles = gl.cdiv(rows, 2 * HALF), gl.cdiv(cols, COLS)
    stage = 0
    phase = 1
    for tile in range(gl.program_id(0), row_tiles * col_tiles, gl.num_programs(0)):
        i, j = _place(tile, row_tiles, col_tiles)
        top = i * 2 * HALF
        for leaf in range(LEAVES):
            for start in range(0, depth, DEPTH):
                here = full.index(stage)
                mbarrier.wait(empty.index(stage), phase)
                mbarrier.expect(here, (2 * HALF + COLS) * DEPTH * 2)
                load(x_desc, [leaf, top, start], here, xs.index(stage * 2))
                load(w_desc, [leaf, j * COLS, start], here, ws.index(stage))
                load(x_desc, [leaf, top + HALF, start], here, xs.index(stage * 2 + 1))
                stage, phase = after(stage, phase, STAGES)


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
        save(out_desc, [row, col], place)


@gluon.jit
def _chain(
    xs, ws, full, empty, depth, stage, phase, half: gl.constexpr, COLS: gl.constexpr, STAGES: gl.constexpr
):  # fmt: skip
    """The sum over one leaf of half of a tile; the stage that comes next, and its phase."""
    layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, COLS, 16])
    total = gl.zeros([HALF, COLS], gl.float32, layout)
    # not `stage`: what begins as the value of another name is not carried through the loop
    before = 0
    for start in range(0, depth, DEPTH):
        mbarrier.wait(full.index(stage), phase)
        x = xs.index(stage * 2 + half).reshape([HALF, DEPTH])
        w = ws.index(stage).reshape([COLS, DEPTH]).permute((1, 0))
        total = warpgroup_mma(x, w, total, is_async=True)
        # all but the newest product are done: their stage may be filled again
        total = warpgroup_mma_wait(1, deps=[total])
        mbarrier.arrive(empty.index(before), pred=start > 0)
        before = stage
        stage, phase = after(stage, phase, STAGES)
    total = warpgroup_mma_wait(0, deps=[total])
    mbarrier.arrive(empty.index(before))
    return total, stage, phase


@gluon.jit
def _carry(total, two, kept, pair, LEAVES: gl.constexpr):
    """The sum that pair `pair` of leaves, whose own is `total`, completes, and that of two leaves that waits.

    As a binary counter carries. A sum of two that waits no more is replaced by one that is there anyway, and
    that of four waits in shared memory: registers hold no more than three.
    """
    if pair % 2 == 1:
        total = two + total
        if LEAVES == 8:
            if pair == 1:
                # it lies where the tile before may still be on its way out
                tma.store_wait(0)
                kept.store(total)
            else:
                total = kept.load(total.type.layout) + total
    return total, total


@gluon.jit
def _seen_as(kept, out_desc, PIECES: gl.constexpr):
    """The memory of a kept sum as that of a piece of the output: the two are never needed together."""
    # Triton knows no star
    pieces: gl.constexpr = PIECES * 32 // out_desc.dtype.primitive_bitwidth
    shape: gl.constexpr = [pieces] + out_desc.block_type.shape  # noqa: RUF005
    if _RENAMED:
        return kept.reinterpret(out_desc.dtype, shape, out_desc.layout).index(0)
    else:  # noqa: RET505  Triton compiles one branch, and nothing that stands after both
        return kept._reinterpret(out_desc.dtype, shape, out_desc.layout).index(0)


@gluon.jit
def _multiply(
    shape, shared, out_desc, bias_ptr, half: gl.constexpr, LEAVES: gl.constexpr, COLS: gl.constexpr,
    STAGES: gl.constexpr, PIECES: gl.constexpr,
):  # fmt: skip
    """One warpgroup: half of the rows of each tile of this program."""
    rows, cols, depth = shape
    xs, ws, full, empty, kept = shared
    kept = kept.index(half)
    place = kept
    if LEAVES == 8:
        place = _seen_as(kept, out_desc, PIECES)
    row_tiles, col_tiles = gl.cdiv(rows, 2 * HALF), gl.cdiv(cols, COLS)
    stage = 0
    phase = 0
    for tile in range(gl.program_id(0), row_tiles * col_tiles, gl.num_programs(0)):
        i, j = _place(tile, row_tiles, col_tiles)
        if LEAVES == 1:
            total, stage, phase = _chain(xs, ws, full, empty, depth, stage, phase, half, COLS, STAGES)
        else:
            two = gl.zeros(
                [HALF, COLS], gl.float32, gl.NVMMADistributedLayout([3, 0], [4, 1], [16, COLS, 16])
            )
            total = two
            # by pairs, which spares the copy of a sum that waits
            for pair in range(LEAVES // 2):
                one, stage, phase = _chain(xs, ws, full, empty, depth, stage, phase, half, COLS, STAGES)
                total, stage, phase = _chain(xs, ws, full, empty, depth, stage, phase, half, COLS, STAGES)
                total = one + total
                total, two = _carry(total, two, kept, pair, LEAVES)
        row = i * 2 * HALF + half * HALF
        _store(total, bias_ptr, out_desc, place, row, j * COLS, cols, PIECES)
    tma.store_wait(0)


@triton.constexpr_function
def _by_thread(cols):
    """How a sum lies in shared memory: a thread's elements by fours, next to its neighbours'."""
    fours, lanes = [[0, 1], [8, 0]], [[0, 2], [0, 4], [1, 0], [2, 0], [4, 0]]
    warps, others = [[16, 0], [32, 0]], [[0, 8 << i] for i in range((cols // 8).bit_length() - 1)]
    return gl.SharedLinearLayout(fours + lanes + warps + others, [], 1024)


@gluon.jit(do_not_specialize=["rows"])
def _wide_kernel(
    x_desc, w_desc, bias_ptr, out_desc, rows, cols, depth, LEAVES: gl.constexpr, COLS: gl.constexpr,
    STAGES: gl.constexpr, PIECES: gl.constexpr,
):  # fmt: skip
    xs = gl.allocate_shared_memory(x_desc.dtype, [STAGES * 2, 1, HALF, DEPTH], x_desc.layout)
    ws = gl.allocate_shared_memory(x_desc.dtype, [STAGES, 1, COLS, DEPTH], w_desc.layout)
    if LEAVES == 8:
        kept = gl.allocate_shared_memory(gl.float32, [2, HALF, COLS], _by_thread(COLS))
    else:
        kept = gl.allocate_shared_memory(out_desc.dtype, [2, HALF, COLS // PIECES], out_desc.layout)
    full, empty = barriers(STAGES)
    shape = (rows, cols, depth)
    shared = (xs, ws, full, empty, kept)
    gl.warp_specialize(
        [
            (_multiply, (shape, shared, out_desc, bias_ptr, 0, LEAVES, COLS, STAGES, PIECES)),
            (_multiply, (shape, shared, out_desc, bias_ptr, 1, LEAVES, COLS, STAGES, PIECES)),
            (_fetch, (shape, shared, x_desc, w_desc, LEAVES, COLS, STAGES)),
        ],
        [4, 1],
        # registers of a thread: the accumulator alone takes 128, fetching needs next to none
        [240, 24],
    )


@functools.lru_cache(maxsize=1 << 12)
def tile_of(rows: int, cols: int, processors: int, leaves: int = 1) -> Tile:
    """The tile whose rounds over the processors take the least time."""
    tiles, times = cdiv(rows, TILE_ROWS), LEAF_TILES if leaves == 8 else TILES
    choice = [tile for tile in times if leaves == 1 or tile.cols <= 128]
    return min(choice, key=lambda tile: times[tile] * cdiv(tiles * cdiv(cols, tile.cols), processors))


def wide_rows(
    x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None, out: DeviceArray,
    tile: Tile | None = None, leaves: int = 1,
) -> None:  # fmt: skip
    """out = x @ W^T + bias, bfloat16 or float16; TMA must reach x, weight and out; any number of rows."""
    (rows, depth), cols = x.shape, weight.shape[0]
    tile = tile or tile_of(rows, cols, processors(), leaves)
    pieces = tile.pieces * 2 if out.dtype == "float32" else tile.pieces
    programs = min(-(-rows // TILE_ROWS) * -(-cols // tile.cols), processors())
    launch(
        _wide_kernel, (programs,), leaves_of(x, leaves, HALF.value, DEPTH.value),
        leaves_of(weight, leaves, tile.cols, DEPTH.value), bias,
        descriptor(out.address, out.dtype, out.shape, out.strides, (HALF.value, tile.cols // pieces)),
        rows, cols, depth // leaves, LEAVES=leaves, COLS=tile.cols, STAGES=tile.stages, PIECES=pieces,
        num_warps=NUM_WARPS,
    )  # fmt: skip

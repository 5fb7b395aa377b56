"""The matmul for few rows: reads the weight once, as fast as memory gives it.

Invariant: that of `matmul_plain`. The weight may be the left operand and the rows the right one: the product
is the same sum, and the tensor core adds it in the same order. So a tile, and which side it puts the rows on,
is chosen by the number of rows and moves no bit.
"""

import functools
from typing import NamedTuple

from triton.tools.tensor_descriptor import TensorDescriptor

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import carry, narrow
from detrec.kernels.launch import INTERPRETED, launch, shared_memory, tl, triton

_INTERPRETED = tl.constexpr(INTERPRETED)

PROCESSORS = 132
"""Of an H100, for which tiles are chosen; on another GPU they are as right, and may be slower."""

BESIDES = 8 << 10
"""Bytes of shared memory that stages leave to barriers and the output."""


class Tile(NamedTuple):
    """Rows of x by rows of the weight, over `depth` k at a time; `swapped` puts the weight on the left."""

    rows: int
    cols: int
    depth: int
    num_warps: int
    num_stages: int
    swapped: bool


@triton.jit
def _product(x_desc, w_desc, leaf, start, top, left, total, LEAVES: tl.constexpr, SWAPPED: tl.constexpr):
    """`total` and the product of a tile of x and of the weight, at k from `start` of a leaf."""
    # what a descriptor reads past the end is 0.0, and a product of it leaves the total as it is
    if LEAVES == 1:
        x, w = x_desc.load([top, start]), w_desc.load([left, start])
    else:
        x = tl.reshape(x_desc.load([leaf, top, start]), x_desc.block_shape[1:])
        w = tl.reshape(w_desc.load([leaf, left, start]), w_desc.block_shape[1:])
    if _INTERPRETED:
        # its dot knows no bfloat16
        x, w = x.to(tl.float32), w.to(tl.float32)
    if SWAPPED:
        return tl.dot(w, x.T, total, input_precision="ieee")
    else:  # noqa: RET505  Triton compiles one branch, and nothing that stands after both
        return tl.dot(x, w.T, total, input_precision="ieee")


@triton.jit(do_not_specialize=["rows"])
def _narrow_kernel(
    x_desc, w_desc, bias_ptr, out_ptr, rows, cols, depth, out_row, LEAVES: tl.constexpr,
    SWAPPED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    top = tl.program_id(1) * BLOCK_M
    left = tl.program_id(0) * BLOCK_N
    total = tl.zeros((BLOCK_N, BLOCK_M) if SWAPPED else (BLOCK_M, BLOCK_N), tl.float32)
    if LEAVES == 1:
        for start in range(0, depth, BLOCK_K):
            total = _product(x_desc, w_desc, 0, start, top, left, total, LEAVES, SWAPPED)
    else:
        chain, one, two, four = total, total, total, total
        leaf = 0
        start = 0
        # one loop over all leaves: the loads of the next are under way before a leaf ends
        for _ in range(LEAVES * tl.cdiv(depth, BLOCK_K)):
            chain = _product(x_desc, w_desc, leaf, start, top, left, chain, LEAVES, SWAPPED)
            ends = start + BLOCK_K >= depth
            if ends:
                total, one, two, four = carry(chain, one, two, four, leaf)
                chain = tl.zeros_like(chain)
            # outside of the branch, or no load could be early
            leaf += ends.to(tl.int32)
            start = tl.where(ends, 0, start + BLOCK_K)
    if SWAPPED:
        total = total.T

    row = (top + tl.arange(0, BLOCK_M)).to(tl.int64)[:, None]
    col = (left + tl.arange(0, BLOCK_N))[None, :]
    if bias_ptr is not None:
        total += tl.load(bias_ptr + col, mask=col < cols, other=0.0)
    total = narrow(total, out_ptr.dtype.element_ty)
    tl.store(out_ptr + row * out_row + col, total, mask=(row < rows) & (col < cols))


@functools.lru_cache(maxsize=1 << 14)
def _descriptor(
    address: int, dtype: str, shape: tuple[int, int], stride: int, block: tuple[int, int], leaves: int
):
    """What TMA reads: kept, because to make one takes longer than to launch a kernel. It owns no memory.

    Of several leaves it is [leaves, rows, k of a leaf], so that what is past the end of a leaf reads as 0.0.
    """
    base = DeviceArray(address, dtype, shape, (stride, 1))
    if leaves == 1:
        return TensorDescriptor(base, list(shape), [stride, 1], list(block))
    depth = shape[1] // leaves
    return TensorDescriptor(base, [leaves, shape[0], depth], [depth, stride, 1], [1, *block])


def narrow_rows(
    x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None, out: DeviceArray,
    tile: Tile | None = None, leaves: int = 1,
) -> None:  # fmt: skip
    """out = x @ W^T + bias, for x and weight that are `reachable`; any number of rows, meant for few."""
    (rows, depth), cols = x.shape, weight.shape[0]
    tile = tile or tile_of(rows, cols, x.dtype, depth // leaves if leaves > 1 else 0)
    stage = (tile.rows + tile.cols) * tile.depth * x.dtype.itemsize
    launch(
        _narrow_kernel, (-(-cols // tile.cols), -(-rows // tile.rows)),
        _descriptor(x.address, x.dtype, x.shape, x.strides[0], (tile.rows, tile.depth), leaves),
        _descriptor(weight.address, weight.dtype, weight.shape, depth, (tile.cols, tile.depth), leaves),
        bias, out, rows, cols, depth // leaves, out.strides[0], LEAVES=leaves, SWAPPED=tile.swapped,
        BLOCK_M=tile.rows, BLOCK_N=tile.cols, BLOCK_K=tile.depth, num_warps=tile.num_warps,
        num_stages=min(tile.num_stages, (shared_memory() - BESIDES) // stage),
    )  # fmt: skip


def reachable(array: DeviceArray) -> bool:
    """Whether TMA can read or write a matrix of contiguous rows: rows start at multiples of 16 bytes."""
    return array.address % 16 == 0 and array.strides[0] * array.dtype.itemsize % 16 == 0


@functools.lru_cache(maxsize=1 << 12)
def tile_of(rows: int, cols: int, dtype: str, leaf: int = 0) -> Tile:
    """The tile for so many rows of x and of the weight, as an H100 likes it.

    `leaf` are the k of a leaf, where K is cut into several: then registers hold up to four sums.
    """
    tile = _tile_of(rows, cols, dtype)
    if not leaf:
        return tile
    if tile.rows * tile.cols > 64 * 64:
        tile = Tile(64, 64, 128, 4, 6, False)
    elif tile.rows > 16 and tile.depth == 256 and leaf > 1024:
        # less of it is past the end of a leaf
        tile = tile._replace(depth=128, num_stages=8)
    return tile._replace(depth=min(tile.depth, max(32, triton.next_power_of_2(leaf))))


def _tile_of(rows: int, cols: int, dtype: str) -> Tile:
    if dtype == "float32":
        return Tile(16, 64, 32, 4, 4, True) if rows <= 16 else Tile(64, 64, 32, 4, 3, False)
    # with deep loads one program fills a processor; if there are more programs, they must share processors
    filled = cols <= 64 * PROCESSORS
    if rows <= 16:
        return Tile(16, 64, 256, 4, 5, True) if filled else Tile(16, 32, 256, 2, 4, True)
    if rows <= 32:
        return Tile(32, 64, 256, 4, 4, True) if filled else Tile(32, 32, 128, 2, 5, True)
    if rows <= 256:
        if cols <= 32 * PROCESSORS:
            return Tile(64, 32, 256, 4, 4, False)
        return Tile(64, 64, 128, 4, 6, False) if filled else Tile(64, 128, 128, 4, 4, False)
    return Tile(128, 128, 64, 4, 4, False)

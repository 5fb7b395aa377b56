"""Mean over any axes whose every element is computed the same way, whatever elements surround it.

Invariant: the reduced elements, in row-major order, are added by min(1024, next power of two >= their
number) lanes, each from left to right, then the lanes are halved in one tree.
"""

from collections.abc import Iterable

from detrec.kernels.axes import mean_axes
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import lanes_of, tree_sum
from detrec.kernels.gpu.rows import FLOATS
from detrec.kernels.launch import cdiv, launch, tl, triton

KERNEL = "gpu.mean lanes=1024 sum/n"
"""Names the kernel and all of its configuration that could move a bit."""

AXES = 3
"""As many kept, and as many reduced axes can be walked, neighbours that lie without gaps counted as one."""
TILE = 4096
NUM_WARPS = 4


@triton.jit
def _offset(index, extent1, extent2, stride0, stride1, stride2):
    """Where element `index` of three axes lies, the last axis fastest."""
    rest = index // extent2
    return rest // extent1 * stride0 + rest % extent1 * stride1 + index % extent2 * stride2


@triton.jit
def _mean_kernel(
    x_ptr, out_ptr, n_out, n_cols,
    kept1, kept2, kept_stride0, kept_stride1, kept_stride2,
    reduced1, reduced2, reduced_stride0, reduced_stride1, reduced_stride2,
    ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = rows < n_out
    x_ptrs = x_ptr + _offset(rows, kept1, kept2, kept_stride0, kept_stride1, kept_stride2)[:, None]
    lanes = tl.zeros((ROWS, LANES), tl.float32)
    for start in range(0, n_cols, LANES):
        cols = start + tl.arange(0, LANES).to(tl.int64)
        offsets = _offset(cols, reduced1, reduced2, reduced_stride0, reduced_stride1, reduced_stride2)
        mask = there[:, None] & (cols < n_cols)[None, :]
        lanes += tl.load(x_ptrs + offsets[None, :], mask=mask, other=0.0).to(tl.float32)
    mean = tl.div_rn(tree_sum(lanes, LANES), n_cols * 1.0)
    tl.store(out_ptr + rows, mean, mask=there)


def _walk(x: DeviceArray, axes: Iterable[int]) -> tuple[list[int], list[int]]:
    """Extents and strides of AXES axes that visit `axes` of x in row-major order."""
    extents: list[int] = []
    strides: list[int] = []
    for axis in axes:
        extent, stride = x.shape[axis], x.strides[axis]
        if extent == 1:
            continue
        if strides and strides[-1] == extent * stride:
            extents[-1] *= extent
            strides[-1] = stride
        else:
            extents.append(extent)
            strides.append(stride)
    if len(extents) > AXES:
        raise ValueError(
            f"mean: shape {list(x.shape)} with strides {list(x.strides)} needs {len(extents)} axes walked, "
            f"expected at most {AXES}"
        )
    missing = AXES - len(extents)
    return [1] * missing + extents, [0] * missing + strides


def mean(x: DeviceArray, axis: int | tuple[int, ...] | None, out: DeviceArray) -> DeviceArray:
    """The mean of x over `axis` (None: over all); gives `out`, float32 of the remaining shape, contiguous.

    x of any float dtype and strides. The order of `axis` does not matter; a mean of no elements is a
    ValueError.
    """
    kept, reduced, shape, columns = mean_axes(x.shape, axis)
    if x.dtype not in FLOATS or out.dtype != "float32" or out.shape != shape or not out.is_contiguous:
        raise ValueError(
            f"mean: x is {x.dtype} {list(x.shape)}, out {out.dtype} {list(out.shape)} with strides "
            f"{list(out.strides)}, expected floats and contiguous float32 {list(shape)}"
        )
    kept_extents, kept_strides = _walk(x, kept)
    extents, strides = _walk(x, reduced)
    lanes = lanes_of(columns)
    # where neighbours of the output are neighbours in memory, several share a program
    together = max(TILE // lanes, 16 if kept_strides[-1] == 1 else 1)
    rows = min(triton.next_power_of_2(max(out.count, 1)), together)
    launch(
        _mean_kernel, (cdiv(out.count, rows),), x, out, out.count, columns,
        *kept_extents[1:], *kept_strides, *extents[1:], *strides,
        ROWS=rows, LANES=lanes, num_warps=NUM_WARPS,
    )  # fmt: skip
    return out

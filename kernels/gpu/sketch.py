"""The sketch of every row, of the same meaning as that of `kernels/cpu/sketch.py`: norm and signed sums.

A row's sketch depends on that row alone: `lanes_of` sums in float32, each from left to right, halved in one
tree. Its last bits are not the CPU's, which adds in float64: sketches compare by tolerance.
"""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import lanes_of, mix64, tree_sum
from detrec.kernels.gpu.rows import expect_rows
from detrec.kernels.launch import launch, tl, triton
from detrec.kernels.projections import PARTS

KERNEL = "gpu.sketch norm signs=3"
"""Names the kernel and all of its configuration that could change what a sketch means."""

NUM_WARPS = 4


@triton.jit
def _signed(value, hashed, part: tl.constexpr):
    return tl.where(((hashed >> part) & 1) == 1, -value, value)


@triton.jit
def _sketch_kernel(x_ptr, out_ptr, n_cols, x_stride, LANES: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    squares = tl.zeros((1, LANES), tl.float32)
    sum0 = tl.zeros((1, LANES), tl.float32)
    sum1 = tl.zeros((1, LANES), tl.float32)
    sum2 = tl.zeros((1, LANES), tl.float32)
    for start in range(0, n_cols, LANES):
        cols = start + tl.arange(0, LANES)[None, :]
        value = tl.load(x_ptr + row * x_stride + cols, mask=cols < n_cols, other=0.0).to(tl.float32)
        hashed = mix64((cols + 1).to(tl.uint64))
        squares = tl.fma(value, value, squares)
        sum0 += _signed(value, hashed, 0)
        sum1 += _signed(value, hashed, 1)
        sum2 += _signed(value, hashed, 2)
    first = out_ptr + row * 4 + tl.arange(0, 1)
    tl.store(first, tl.sqrt_rn(tree_sum(squares, LANES)))
    tl.store(first + 1, tree_sum(sum0, LANES))
    tl.store(first + 2, tree_sum(sum1, LANES))
    tl.store(first + 3, tree_sum(sum2, LANES))


def sketch(x: DeviceArray, out: DeviceArray) -> DeviceArray:
    """The sketch of every row of x; gives `out`.

    x [R, width] of any float dtype, rows contiguous and at any stride; out float32 [R, PARTS], contiguous.
    """
    expect_rows("sketch", x=x)
    rows, columns = x.shape
    if out.dtype != "float32" or out.shape != (rows, PARTS) or not out.is_contiguous:
        raise ValueError(
            f"sketch: out is {out.dtype} {list(out.shape)} with strides {list(out.strides)}, "
            f"expected contiguous float32 [{rows}, {PARTS}]"
        )
    launch(
        _sketch_kernel, (rows,), x, out, columns, x.strides[0], LANES=lanes_of(columns), num_warps=NUM_WARPS
    )
    return out

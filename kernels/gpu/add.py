"""Elementwise sum: one float32 addition an element, so a row cannot see another."""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import narrow
from detrec.kernels.launch import cdiv, launch, tl, triton

KERNEL = "gpu.add float32"
"""Names the kernel and all of its configuration that could move a bit."""

BLOCK = 1024
NUM_WARPS = 4


@triton.jit
def _add_kernel(x_ptr, y_ptr, out_ptr, n_cols, x_stride, y_stride, out_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = cols < n_cols
    x = tl.load(x_ptr + row * x_stride + cols, mask=mask).to(tl.float32)
    y = tl.load(y_ptr + row * y_stride + cols, mask=mask).to(tl.float32)
    tl.store(out_ptr + row * out_stride + cols, narrow(x + y, out_ptr.dtype.element_ty), mask=mask)


def add(x: DeviceArray, y: DeviceArray, out: DeviceArray) -> DeviceArray:
    """x + y; gives `out`, which may be x or y. All [R, C], float32, bfloat16 or float16, rows contiguous."""
    if not x.shape == y.shape == out.shape or x.ndim != 2:
        raise ValueError(
            f"add: shapes {list(x.shape)}, {list(y.shape)} and out {list(out.shape)}, expected one [R, C]"
        )
    rows, cols = x.shape
    strides = x.strides[0], y.strides[0], out.strides[0]
    launch(
        _add_kernel, (rows, cdiv(cols, BLOCK)), x, y, out, cols, *strides, BLOCK=BLOCK, num_warps=NUM_WARPS
    )
    return out

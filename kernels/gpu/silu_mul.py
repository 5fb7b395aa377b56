"""SwiGLU's gate: every element is computed by itself, so a row cannot see another."""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import narrow, silu32
from detrec.kernels.gpu.rows import expect_rows
from detrec.kernels.launch import cdiv, launch, tl, triton

KERNEL = "gpu.silu_mul x/(1+exp32(-x))*y"
"""Names the kernel and all of its configuration that could move a bit."""

BLOCK = 1024
NUM_WARPS = 4


@triton.jit
def _silu_mul_kernel(x_ptr, out_ptr, n_cols, x_stride, out_stride, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = cols < n_cols
    x_ptr += row * x_stride
    gate = tl.load(x_ptr + cols, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(x_ptr + n_cols + cols, mask=mask, other=0.0).to(tl.float32)
    y = silu32(gate) * up
    tl.store(out_ptr + row * out_stride + cols, narrow(y, out_ptr.dtype.element_ty), mask=mask)


def silu_mul(x: DeviceArray, out: DeviceArray) -> DeviceArray:
    """silu(x[:, :F]) * x[:, F:]; gives `out`.

    x [R, 2F] and out [R, F] of one dtype, rows contiguous. Shazeer, GLU Variants Improve Transformer, 2020.
    """
    expect_rows("silu_mul", x=x, out=out)
    rows, cols = out.shape
    if x.shape != (rows, 2 * cols) or x.dtype != out.dtype:
        raise ValueError(
            f"silu_mul: x is {x.dtype} {list(x.shape)}, out {out.dtype} {list(out.shape)}, "
            "expected [R, 2F] and [R, F] of one dtype"
        )
    strides = x.strides[0], out.strides[0]
    launch(
        _silu_mul_kernel, (rows, cdiv(cols, BLOCK)), x, out, cols, *strides, BLOCK=BLOCK, num_warps=NUM_WARPS
    )
    return out

"""Rows of a matrix by their number: copied, so there is nothing to round."""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.launch import cdiv, launch, tl, triton

KERNEL = "gpu.gather_rows copy"
"""Names the kernel and all of its configuration that could move a bit."""

FLOATS = ("float32", "bfloat16", "float16")
"""What a row may hold."""

BLOCK = 1024
NUM_WARPS = 4


def expect_rows(kernel: str, **arrays: DeviceArray) -> None:
    """Raise ValueError unless each is a matrix of FLOATS with contiguous rows, at any stride."""
    for name, x in arrays.items():
        if x.ndim != 2 or x.dtype not in FLOATS:
            raise ValueError(
                f"{kernel}: {name} is {x.dtype} {list(x.shape)}, expected [rows, columns] of "
                f"{', '.join(FLOATS)}"
            )
        if x.strides[1] != 1 and x.shape[1] > 1:
            raise ValueError(f"{kernel}: the rows of {name} are not contiguous: strides {list(x.strides)}")


def expect_vector(kernel: str, name: str, x: DeviceArray, dtype: str, size: int) -> None:
    """Raise ValueError unless x is `dtype` [size], contiguous."""
    if x.dtype != dtype or x.shape != (size,) or not x.is_contiguous:
        raise ValueError(
            f"{kernel}: {name} is {x.dtype} {list(x.shape)} with strides {list(x.strides)}, "
            f"expected contiguous {dtype} [{size}]"
        )


@triton.jit
def _gather_kernel(
    x_ptr, index_ptr, out_ptr, first, n_rows, n_cols, x_stride, out_stride,
    MISSING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = cols < n_cols
    source = tl.load(index_ptr + row) - first
    there = cols < tl.where((source >= 0) & (source < n_rows), n_cols, 0)
    x = tl.load(x_ptr + source * x_stride + cols, mask=there, other=MISSING)
    tl.store(out_ptr + row * out_stride + cols, x, mask=mask)


def gather(
    kernel: str,
    name: str,
    x: DeviceArray,
    index: DeviceArray,
    out: DeviceArray,
    first: int = 0,
    missing: float = 0.0,
) -> DeviceArray:
    """`gather_rows` for a kernel and a matrix of another name in its errors.

    x has the rows from number `first` on; what it has not is filled with `missing`.
    """
    expect_rows(kernel, **{name: x, "out": out})
    if out.dtype != x.dtype or out.shape[1] != x.shape[1]:
        raise ValueError(
            f"{kernel}: {name} is {x.dtype} {list(x.shape)}, out {out.dtype} {list(out.shape)}, "
            "expected one dtype and width"
        )
    rows, cols = out.shape
    expect_vector(kernel, "tokens" if kernel == "embedding" else "index", index, "int64", rows)
    strides = x.strides[0], out.strides[0]
    grid = rows, cdiv(cols, BLOCK)
    launch(
        _gather_kernel, grid, x, index, out, first, x.shape[0], cols, *strides,
        MISSING=missing, BLOCK=BLOCK, num_warps=NUM_WARPS,
    )  # fmt: skip
    return out


def gather_rows(x: DeviceArray, index: DeviceArray, out: DeviceArray) -> DeviceArray:
    """out[s] = x[index[s]], zeros where x has no such row (-1 marks padding); gives `out`.

    x [R, C], rows contiguous; index int64 [S]; out [S, C] of x's dtype, not x.
    """
    return gather("gather_rows", "x", x, index, out)

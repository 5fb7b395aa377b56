"""RMS norm whose every row is computed the same way, whatever rows surround it.

Invariant: a group of C columns is squared and added by min(1024, next power of two >= C) lanes, each from
left to right by fma, then the lanes are halved in one tree. Nothing but C chooses that order. A group stays
in registers between its sum and its output.
"""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import lanes_of, narrow, tree_sum
from detrec.kernels.gpu.rows import expect_rows, expect_vector
from detrec.kernels.launch import cdiv, launch, tl, triton

KERNEL = "gpu.rms_norm lanes=1024 squares=fma (x*rstd)*w"
"""Names the kernel and all of its configuration that could move a bit."""

TILE = 1024
"""Elements that one warp holds, of several groups where they are short."""
WIDE_WARPS = 4
"""Warps that share a group wider than TILE: within one warp a tree needs no shared memory."""


@triton.jit
def _rms_norm_kernel(
    x_ptr, residual_ptr, weight_ptr, sum_ptr, out_ptr,
    n_groups, groups_a_row, n_cols, eps, x_stride, residual_stride, sum_stride, out_stride,
    RESIDUAL: tl.constexpr, GROUPS: tl.constexpr, LANES: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    # one group is a scalar, not a vector of one: its loads are wide
    groups = tl.program_id(0).to(tl.int64) * GROUPS
    end = n_cols
    if GROUPS > 1:
        groups += tl.arange(0, GROUPS)[:, None]
        end = tl.where(groups < n_groups, n_cols, 0)
    rows, start = groups // groups_a_row, groups % groups_a_row * n_cols
    x_ptrs = x_ptr + (rows * x_stride + start)
    residual_ptrs = residual_ptr + (rows * residual_stride + start)
    sum_ptrs = sum_ptr + (rows * sum_stride + start)
    out_ptrs = out_ptr + (rows * out_stride + start)
    lane = tl.arange(0, LANES)[None, :]

    lanes = tl.zeros((GROUPS, LANES), tl.float32)
    kept = ()
    for chunk in tl.static_range(CHUNKS):
        cols = chunk * LANES + lane
        mask = cols < end
        x = tl.load(x_ptrs + cols, mask=mask, other=0.0).to(tl.float32)
        if RESIDUAL:
            x += tl.load(residual_ptrs + cols, mask=mask, other=0.0).to(tl.float32)
            stored = narrow(x, sum_ptr.dtype.element_ty)
            tl.store(sum_ptrs + cols, stored, mask=mask)
            x = stored.to(tl.float32)
        lanes = tl.fma(x, x, lanes)
        kept = kept + (x,)  # type: ignore[assignment]  # noqa: RUF005
    mean = tl.div_rn(tree_sum(lanes, LANES), n_cols * 1.0)
    rstd = tl.div_rn(1.0, tl.sqrt_rn(mean + eps))[:, None]

    for chunk in tl.static_range(CHUNKS):
        cols = chunk * LANES + lane
        weight = tl.load(weight_ptr + cols, mask=cols < n_cols, other=0.0)
        y = (kept[chunk] * rstd) * weight
        tl.store(out_ptrs + cols, narrow(y, out_ptr.dtype.element_ty), mask=cols < end)


def _run(
    kernel: str,
    x: DeviceArray,
    residual: DeviceArray,
    weight: DeviceArray,
    eps: float,
    out: DeviceArray,
    sum_out: DeviceArray,
) -> DeviceArray:
    expect_rows(kernel, x=x, residual=residual, out=out, sum_out=sum_out)
    for name, y in (("residual", residual), ("out", out), ("sum_out", sum_out)):
        if y.shape != x.shape or y.dtype != x.dtype:
            raise ValueError(
                f"{kernel}: {name} is {y.dtype} {list(y.shape)}, x {x.dtype} {list(x.shape)}: not alike"
            )
    rows, cols = x.shape
    if weight.ndim != 1 or not weight.shape[0] or cols % weight.shape[0]:
        raise ValueError(
            f"{kernel}: weight has shape {list(weight.shape)}, expected [C], C dividing {cols} columns"
        )
    size = weight.shape[0]
    expect_vector(kernel, "weight", weight, "float32", size)
    lanes = lanes_of(size)
    groups = max(TILE // lanes, 1)
    launch(
        _rms_norm_kernel, (cdiv(rows * (cols // size), groups),), x, residual, weight, sum_out, out,
        rows * (cols // size), cols // size, size, float(eps),
        x.strides[0], residual.strides[0], sum_out.strides[0], out.strides[0],
        RESIDUAL=kernel == "rms_norm_residual", GROUPS=groups, LANES=lanes, CHUNKS=cdiv(size, lanes),
        num_warps=1 if size <= TILE else WIDE_WARPS,
    )  # fmt: skip
    return out


def rms_norm(x: DeviceArray, weight: DeviceArray, eps: float, out: DeviceArray) -> DeviceArray:
    """Divide every group of C columns of x by its root mean square and multiply by weight; gives `out`.

    x [R, G*C], rows contiguous and at any stride; weight float32 [C], contiguous; out like x, may be x. Zhang
    and Sennrich, Root Mean Square Layer Normalization, 2019.
    """
    return _run("rms_norm", x, x, weight, eps, out, out)


def rms_norm_residual(
    x: DeviceArray,
    residual: DeviceArray,
    weight: DeviceArray,
    eps: float,
    out: DeviceArray,
    sum_out: DeviceArray,
) -> DeviceArray:
    """`add(x, residual, sum_out)`, then `rms_norm(sum_out, weight, eps, out)`, to the bit; gives `out`.

    The sum is rounded to its dtype before it is normalised. sum_out may be x or residual. Shapes as
    `rms_norm`.
    """
    return _run("rms_norm_residual", x, residual, weight, eps, out, sum_out)

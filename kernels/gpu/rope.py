"""Rotary position embedding: every pair is rotated by itself, so a row cannot see another.

Rotate-half: the pair is (x[i], x[i + D/2]) of one head. The tables are `kernels/cpu/rope.py`'s `rope_tables`.
"""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import narrow
from detrec.kernels.gpu.rows import expect_rows, expect_vector
from detrec.kernels.launch import cdiv, launch, tl, triton

KERNEL = "gpu.rope rotate_half y1=fma(-x2,s,x1*c) y2=fma(x2,c,x1*s)"
"""Names the kernel and all of its configuration that could move a bit."""

PAIRS = 2048
"""Pairs a program rotates at once."""
NUM_WARPS = 4


@triton.jit
def _rope_kernel(
    x_ptr, positions_ptr, cos_ptr, sin_ptr, out_ptr,
    n_heads, half, n_positions, x_stride, out_stride, HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    heads = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    pairs = tl.arange(0, HALF)
    position = tl.load(positions_ptr + row)
    known = tl.where((position >= 0) & (position < n_positions), half, 0)
    angle = position * half + pairs
    c = tl.load(cos_ptr + angle, mask=pairs < known, other=0.0)[None, :]
    s = tl.load(sin_ptr + angle, mask=pairs < known, other=0.0)[None, :]
    mask = (heads < n_heads)[:, None] & (pairs < half)[None, :]
    there = mask & (pairs < known)[None, :]
    cols = heads[:, None] * (2 * half) + pairs[None, :]
    x_ptr += row * x_stride
    out_ptr += row * out_stride
    first = tl.load(x_ptr + cols, mask=there, other=0.0).to(tl.float32)
    second = tl.load(x_ptr + half + cols, mask=there, other=0.0).to(tl.float32)
    y1 = tl.fma(-second, s.broadcast_to(HEADS, HALF), first * c)
    y2 = tl.fma(second, c.broadcast_to(HEADS, HALF), first * s)
    tl.store(out_ptr + cols, narrow(y1, out_ptr.dtype.element_ty), mask=mask)
    tl.store(out_ptr + half + cols, narrow(y2, out_ptr.dtype.element_ty), mask=mask)


def rope(
    x: DeviceArray, positions: DeviceArray, cos: DeviceArray, sin: DeviceArray, out: DeviceArray
) -> DeviceArray:
    """Rotate every head of x by its row's position; gives `out`, which may be x.

    x and out [R, heads*D] of one dtype, rows contiguous and at any stride; positions int64 [R]; cos and sin
    float32 [positions, D/2], contiguous. A row whose position the tables lack comes out zero. Su et al.,
    RoFormer, 2021.
    """
    expect_rows("rope", x=x, out=out)
    if out.shape != x.shape or out.dtype != x.dtype:
        raise ValueError(
            f"rope: x is {x.dtype} {list(x.shape)}, out {out.dtype} {list(out.shape)}, "
            "expected one dtype and shape"
        )
    tables = [cos.dtype, sin.dtype] == ["float32"] * 2 and cos.is_contiguous and sin.is_contiguous
    if not tables or cos.shape != sin.shape or cos.ndim != 2 or x.shape[1] % (2 * cos.shape[1] or 1):
        raise ValueError(
            f"rope: tables are {cos.dtype} {list(cos.shape)} and {sin.dtype} {list(sin.shape)}, expected "
            f"contiguous float32 [positions, D/2] with D dividing {x.shape[1]} columns"
        )
    rows, cols = x.shape
    expect_vector("rope", "positions", positions, "int64", rows)
    known, half = cos.shape
    width = triton.next_power_of_2(half)
    n_heads = cols // (2 * half)
    heads = max(min(PAIRS // width, triton.next_power_of_2(n_heads)), 1)
    launch(
        _rope_kernel, (rows, cdiv(n_heads, heads)), x, positions, cos, sin, out,
        n_heads, half, known, x.strides[0], out.strides[0],
        HEADS=heads, HALF=width, num_warps=NUM_WARPS,
    )  # fmt: skip
    return out

"""Matmul on the GPU: the same bits for a row in any batch.

Invariant: an element of y = x @ W^T + bias is one chain over k = 0..K-1 into a float32 accumulator that
starts at 0.0, then one addition of the bias, then one rounding to the dtype of the output. In float32 a link
of the chain is one FMA, which makes it the chain of `kernels/cpu/matmul.py`, bit for bit. In bfloat16 and
float16 a link is the tensor core's sum of 16 products, k at a multiple of 16 the first of them. K is never
split and its order never depends on the rows: they choose which kernel and tile runs the chains, and all of
them give the same bits.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.matmul_narrow import narrow_rows, reachable
from detrec.kernels.gpu.matmul_plain import plain
from detrec.kernels.launch import INTERPRETED, triton

KERNEL = "gpu.matmul dot-chain k=0..K"
"""Names the kernel and all of its configuration that could move a bit."""

FLOATS = ("float32", "bfloat16", "float16")

FEW = 64
"""Up to so many rows the weight is read once and its bytes are what takes the time."""


class Tuned(NamedTuple):
    """Kernels with the arguments and bits of `narrow_rows` that only some GPUs run; None on all others."""

    wide: Callable[..., None] | None
    float32: Callable[..., None] | None


def multiply(
    x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None, out: DeviceArray, leaves: int
) -> DeviceArray:
    """`matmul` with K cut into leaves (`matmul_leaves`)."""
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[1] or out.shape != (len(x), len(weight)):
        raise ValueError(
            f"matmul: x {list(x.shape)} and weight {list(weight.shape)} do not give out {list(out.shape)}"
        )
    _check("matmul", x, weight, out)
    (rows, depth), cols = x.shape, len(weight)
    if weight.strides[0] != depth and cols > 1:
        raise ValueError(f"matmul: weight has strides {list(weight.strides)}, expected contiguous")
    if bias is not None and (bias.shape != (cols,) or bias.dtype != "float32" or not bias.is_contiguous):
        raise ValueError(f"matmul: bias is {bias!r}, weight needs a contiguous float32 [{cols}]")
    if not rows or not cols:
        return out
    # TMA reads a leaf from where it starts
    aligned = depth and depth // leaves * x.dtype.itemsize % 16 == 0
    if not (aligned and reachable(x) and reachable(weight)):
        plain(_one(x), _one(weight, transposed=True), bias, _one(out), leaves)
        return out
    tuned = _tuned()
    if x.dtype == "float32":
        run = tuned.float32
    else:
        # a weight of few rows makes too few tiles of many rows to fill a GPU
        many = rows > FEW and (rows > 4 * FEW or cols > 2048) and reachable(out)
        run = tuned.wide if many else None
    (run or narrow_rows)(x, weight, bias, out, leaves=leaves)
    return out


def matmul(x: DeviceArray, weight: DeviceArray, bias: DeviceArray | None, out: DeviceArray) -> DeviceArray:
    """out = x @ W^T + bias; gives `out` back.

    x [R, K] and out [R, N], a row contiguous, rows at any stride; weight [N, K] contiguous; bias float32 [N]
    or None. x and weight share a dtype, float32, bfloat16 or float16; out has it too or is float32.
    ValueError where shapes or dtypes do not fit.
    """
    return multiply(x, weight, bias, out, leaves=1)


def addmm(bias: DeviceArray, x: DeviceArray, weight: DeviceArray, out: DeviceArray) -> DeviceArray:
    """out = bias + x @ W^T: `matmul` with a bias that must be given."""
    return matmul(x, weight, bias, out)


def bmm(x: DeviceArray, w: DeviceArray, out: DeviceArray) -> DeviceArray:
    """out[b] = x[b] @ w[b] for x [B, M, K], w [B, K, N], out [B, M, N], rows contiguous; gives `out` back."""
    if (
        x.ndim != 3 or w.ndim != 3 or x.shape[::2] != w.shape[:2]
        or out.shape != (*x.shape[:2], w.shape[2])
    ):  # fmt: skip
        raise ValueError(f"bmm: x {list(x.shape)} and w {list(w.shape)} do not give out {list(out.shape)}")
    _check("bmm", x, w, out)
    plain(x, w, None, out)
    return out


@functools.cache
def _tuned() -> Tuned:
    if INTERPRETED:
        return Tuned(None, None)
    architecture = triton.runtime.driver.active.get_current_target().arch
    try:
        from detrec.kernels.gpu.matmul_float32 import float32_rows
        from detrec.kernels.gpu.matmul_wide import wide_rows
    except ImportError:
        # Gluon is experimental in every Triton so far: without it there is less speed, and not another bit
        return Tuned(None, None)
    return Tuned(
        wide_rows if architecture == 90 else None, float32_rows if architecture in (90, 100) else None
    )


def _one(array: DeviceArray, *, transposed: bool = False) -> DeviceArray:
    """A matrix, or its transpose, as a batch of one."""
    step = -1 if transposed else 1
    shape, strides = array.shape[::step], array.strides[::step]
    return DeviceArray(array.address, array.dtype, (1, *shape), (0, *strides), array.owner)


def _check(name: str, x: DeviceArray, weight: DeviceArray, out: DeviceArray) -> None:
    if x.dtype not in FLOATS or weight.dtype != x.dtype or out.dtype not in (x.dtype, "float32"):
        raise ValueError(
            f"{name}: x is {x.dtype}, weight {weight.dtype}, out {out.dtype}, "
            "expected x and weight of one float dtype and out of the same or float32"
        )
    for role, array in (("x", x), ("weight", weight), ("out", out)):
        if array.strides[-1] != 1 and array.shape[-1] > 1:
            raise ValueError(
                f"{name}: a row of {role} is not contiguous, its strides are {list(array.strides)}"
            )

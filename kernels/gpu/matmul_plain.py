"""The matmul that takes every shape, stride and alignment, through pointers.

Invariant: an element is one chain of `tl.dot` over k = 0..K-1 into a float32 accumulator that starts at 0.0,
then one addition of the bias, then one rounding. The hardware adds k in groups of 16 that start at multiples
of 16 (float32: one FMA a k), so tiles, warps and stages only decide which chains run side by side.
"""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.portable import carry, narrow
from detrec.kernels.launch import INTERPRETED, cdiv, launch, tl, triton

_INTERPRETED = tl.constexpr(INTERPRETED)


@triton.jit
def _chain(
    x_ptr, w_ptr, depth, w_depth, EVEN_K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    """The sum over `depth` k, from x [BLOCK_M, BLOCK_K] and w [BLOCK_K, BLOCK_N] on."""
    k = tl.arange(0, BLOCK_K)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, depth, BLOCK_K):
        if EVEN_K:
            x, w = tl.load(x_ptr), tl.load(w_ptr)
        else:
            x = tl.load(x_ptr, mask=k[None, :] < depth - start, other=0.0)
            w = tl.load(w_ptr, mask=k[:, None] < depth - start, other=0.0)
        if _INTERPRETED:
            # its dot knows no bfloat16
            x, w = x.to(tl.float32), w.to(tl.float32)
        total = tl.dot(x, w, total, input_precision="ieee")
        x_ptr += BLOCK_K
        w_ptr += BLOCK_K * w_depth
    return total


# depth: a loop that is known to run once would be folded, and what is added become where its sum starts
@triton.jit(do_not_specialize=["rows", "depth"])
def _plain_kernel(
    x_ptr, w_ptr, bias_ptr, out_ptr, rows, cols, depth, x_row, w_col, w_depth, out_row, x_batch, w_batch,
    out_batch, LEAVES: tl.constexpr, EVEN_K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    batch = tl.program_id(2).to(tl.int64)
    row = tl.program_id(1).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    col = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    # rows and columns past the end read the last one: no mask inside the loop, and nothing is stored
    x_ptr += batch * x_batch + tl.minimum(row, rows - 1)[:, None] * x_row + k[None, :]
    w_ptr += batch * w_batch + tl.minimum(col, cols - 1)[None, :] * w_col + k.to(tl.int64)[:, None] * w_depth
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    one, two, four = total, total, total
    for leaf in range(LEAVES):
        total = _chain(x_ptr, w_ptr, depth, w_depth, EVEN_K, BLOCK_M, BLOCK_N, BLOCK_K)
        if LEAVES > 1:
            total, one, two, four = carry(total, one, two, four, leaf)
            x_ptr += depth
            w_ptr += depth * w_depth

    if bias_ptr is not None:
        total += tl.load(bias_ptr + col, mask=col < cols, other=0.0)[None, :]
    out_ptr += batch * out_batch + row[:, None] * out_row + col[None, :]
    inside = (row < rows)[:, None] & (col < cols)[None, :]
    tl.store(out_ptr, narrow(total, out_ptr.dtype.element_ty), mask=inside)


def plain(
    x: DeviceArray, w: DeviceArray, bias: DeviceArray | None, out: DeviceArray, leaves: int = 1
) -> None:
    """out[b] = x[b] @ w[b] + bias for x [B, M, K], w [B, K, N], bias [N] or None and out [B, M, N].

    Rows of x and out are contiguous, all other strides are free.
    """
    batch, rows, depth = x.shape
    cols, depth = w.shape[2], depth // leaves
    block_m = 16 if rows <= 16 else 64
    block_k = 32 if x.dtype == "float32" else 64
    launch(
        _plain_kernel, (cdiv(cols, 64), cdiv(rows, block_m), batch), x, w, bias, out, rows, cols, depth,
        x.strides[1], w.strides[2], w.strides[1], out.strides[1], x.strides[0], w.strides[0], out.strides[0],
        LEAVES=leaves, EVEN_K=depth % block_k == 0, BLOCK_M=block_m, BLOCK_N=64, BLOCK_K=block_k, num_warps=4,
        num_stages=3,
    )  # fmt: skip

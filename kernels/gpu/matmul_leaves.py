"""Matmul on the GPU with K summed as leaves in a binary tree: the same bits for any number of ranks.

Invariant: a leaf is the chain of `matmul` over its k, from 0.0 and as if no other k were there; leaves are
added as `kernels/leaves.py` says, then rounded once to the dtype of the output. In float32 these are the bits
of `kernels/cpu/matmul_leaves.py`.
"""

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.matmul import multiply
from detrec.kernels.leaves import expect_leaves


def kernel(leaves: int) -> str:
    """Names the kernel and all of its configuration that could move a bit."""
    return f"gpu.matmul_leaves dot-chain tree leaves={leaves}"


def matmul_leaves(x: DeviceArray, weight: DeviceArray, out: DeviceArray, *, leaves: int) -> DeviceArray:
    """out = x @ W^T of the k that one rank owns, `leaves` leaves added in their tree; gives `out` back.

    x [R, K] and out [R, N], a row contiguous, rows at any stride; weight [N, K] contiguous. x and weight
    share a dtype, float32, bfloat16 or float16; out has it too or is float32. leaves is LEAVES over the
    number of ranks: 1, 2, 4 or 8; where it is less than LEAVES, out is a partial sum and wants to be float32.
    Fast where a leaf of a row is a multiple of 16 bytes. ValueError where leaves do not divide K, or shapes
    or dtypes do not fit.
    """
    expect_leaves(weight.shape[-1], leaves)
    return multiply(x, weight, None, out, leaves)

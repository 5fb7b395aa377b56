"""Matmul on the CPU with K summed as leaves in a binary tree: the same bits for any number of ranks.

Invariant: a leaf is the FMA chain of `matmul` over its k, from 0.0; leaves are added as `kernels/leaves.py`
says, then rounded once to the dtype of the output.
"""

import numpy as np

from detrec.kernels.cpu.matmul import multiply
from detrec.kernels.cpu.packed import PackedWeight
from detrec.kernels.leaves import expect_leaves


def kernel(leaves: int) -> str:
    """Names the kernel and all of its configuration that could move a bit."""
    return f"cpu.matmul_leaves fma-chain tree leaves={leaves}"


def matmul_leaves(x: np.ndarray, weight: PackedWeight, out: np.ndarray, *, leaves: int) -> np.ndarray:
    """out = x @ W^T of the k that one rank owns, `leaves` leaves added in their tree; gives `out` back.

    x [R, K] and out [R, N], a row contiguous, rows at any stride; weight (N, K). x, weight and out are each
    float32 or uint16 (bfloat16 bits). leaves is LEAVES over the number of ranks: 1, 2, 4 or 8; where it is
    less than LEAVES, out is a partial sum and wants to be float32. ValueError where leaves do not divide K,
    or shapes or dtypes do not fit.
    """
    depth = weight.shape[1]
    expect_leaves(depth, leaves)
    return multiply(x, weight, None, out, 0, depth, leaves)

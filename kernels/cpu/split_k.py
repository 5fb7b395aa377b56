"""Matmul with K cut into leaves: a fault kernel, which a kernel becomes when it splits K by the batch.

Every leaf is an FMA chain of its own; leaves are added in rising order, or in the order in which threads
bring them, then the bias. So its bits move with `splits`, and in a race from call to call, which is the
point: nothing but a fault and the negative control of a test may call it.
"""

import random
import threading
import time

import numpy as np

from detrec.kernels.cpu.compiling import compiled
from detrec.kernels.cpu.matmul import NO_BIAS, multiply
from detrec.kernels.cpu.packed import PackedWeight
from detrec.kernels.cpu.portable import narrow

# seconds a thread is late at most: longer than it takes to start all of them
JITTER = 3e-4


def kernel(splits: int) -> str:
    """Names the kernel and all of its configuration that could move a bit."""
    return f"cpu.split_k_matmul fma-chain leaves={splits}"


@compiled
def _add(leaves: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    for row in range(out.shape[0]):
        for j in range(out.shape[1]):
            total = leaves[0, row, j]
            for leaf in range(1, leaves.shape[0]):
                total += leaves[leaf, row, j]
            out[row, j] = narrow(total + bias[j] if bias.size else total, out)


def _leaves(
    x: np.ndarray, weight: PackedWeight, bias: np.ndarray | None, out: np.ndarray, splits: int
) -> np.ndarray:
    """float32 [splits, R, N]: leaf i over k in [K * i // splits, K * (i + 1) // splits)."""
    if splits < 1:
        raise ValueError(f"split_k_matmul: splits is {splits}, expected at least 1")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"split_k_matmul: bias has shape {bias.shape}, weight needs ({weight.shape[0]},)")
    cuts = [weight.shape[1] * i // splits for i in range(splits + 1)]
    leaves = np.empty((splits, *out.shape), np.float32)
    for leaf, start, stop in zip(leaves, cuts, cuts[1:], strict=False):
        multiply(x, weight, None, leaf, start, stop)
    return leaves


def split_k_matmul(
    x: np.ndarray, weight: PackedWeight, bias: np.ndarray | None, out: np.ndarray, splits: int
) -> np.ndarray:
    """out = x @ W^T + bias of `matmul`, leaf i over k in [K * i // splits, K * (i + 1) // splits)."""
    _add(_leaves(x, weight, bias, out, splits), NO_BIAS if bias is None else bias, out)
    return out


def racing_matmul(
    x: np.ndarray, weight: PackedWeight, bias: np.ndarray | None, out: np.ndarray, splits: int
) -> np.ndarray:
    """`split_k_matmul` whose leaves are added as they come: a thread each, to one sum, as atomics do.

    Two calls on one input give other bits as often as the threads come in another order.
    """
    leaves = _leaves(x, weight, bias, out, splits)
    total = np.zeros((1, *out.shape), np.float32)
    turn, start = threading.Lock(), threading.Barrier(splits)
    # not the generator that a program may seed: a race that repeats itself is none
    late = random.SystemRandom()

    def bring(leaf: np.ndarray) -> None:
        start.wait()
        time.sleep(late.random() * JITTER)
        with turn:
            np.add(total[0], leaf, out=total[0])

    threads = [threading.Thread(target=bring, args=(leaf,)) for leaf in leaves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _add(total, NO_BIAS if bias is None else bias, out)
    return out

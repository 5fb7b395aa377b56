"""What a rank computes of its columns or heads has the bits that one rank computes of all of them.

So a column-parallel layer and what follows it need no leaves (`matmul_leaves`) to be the same for any number
of ranks. Matmul and attention choose tiles by how many columns or heads there are: that must not show.
"""

from dataclasses import replace

import numpy as np
import pytest

from detrec.kernels.gpu.matmul import matmul
from detrec.kernels.gpu.rms_norm import rms_norm
from detrec.kernels.gpu.silu_mul import silu_mul
from tests.bits import assert_same_bits
from tests.kernels.gpu.device import FLOATS, device, floats, fresh, host
from tests.kernels.gpu.paged import Paged, attend, decode, paged
from tests.kernels.gpu.rough import rough, rough_floats

RANKS = [2, 4, 8]


def parts(array: np.ndarray, ranks: int, axis: int = 1) -> list[np.ndarray]:
    """Each rank's part, as memory of its own."""
    return [np.ascontiguousarray(part) for part in np.split(array, ranks, axis=axis)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("ranks", RANKS)
def test_gate_and_norm_of_some_columns(ranks, dtype):
    gates, ups = rough(1, 3, 1216), rough(2, 3, 1216)
    whole = silu_mul(floats(np.concatenate([gates, ups], axis=1), dtype), fresh((3, 1216), dtype))
    some = [
        host(silu_mul(floats(np.concatenate(pair, axis=1), dtype), fresh((3, 1216 // ranks), dtype)))
        for pair in zip(parts(gates, ranks), parts(ups, ranks), strict=True)
    ]
    assert_same_bits(np.concatenate(some, axis=1), host(whole))

    weight = device(rough(3, 64))
    whole = rms_norm(floats(gates[:, :1024], dtype), weight, 1e-6, fresh((3, 1024), dtype))
    some = [
        host(rms_norm(floats(part, dtype), weight, 1e-6, fresh(part.shape, dtype)))
        for part in parts(gates[:, :1024], ranks)
    ]
    assert_same_bits(np.concatenate(some, axis=1), host(whole))


@pytest.mark.gpu
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("dtype", FLOATS)
# 37888: gate and up of Qwen2.5-7B. 4608: its q, k and v. 1000: a rank has 125 columns, which are no tile.
@pytest.mark.parametrize(("cols", "depth"), [(37888, 896), (4608, 3584), (1000, 1000)])
def test_matmul_of_some_columns(cols, depth, dtype, ranks):
    x, weight, bias = (
        rough_floats(1, (300, depth), dtype),
        rough_floats(2, (cols, depth), dtype),
        rough(3, cols),
    )
    each = [
        (device(w), device(b))
        for w, b in zip(parts(host(weight), ranks, axis=0), parts(bias, ranks, axis=0), strict=True)
    ]
    for rows in (1, 33, 70, 300):
        whole = matmul(x[:rows], weight, device(bias), fresh((rows, cols), "float32"))
        some = [host(matmul(x[:rows], w, b, fresh((rows, cols // ranks), "float32"))) for w, b in each]
        assert_same_bits(np.concatenate(some, axis=1), host(whole))


def of_rank(memory: Paged, rank: int, ranks: int) -> Paged:
    """The heads that a rank has; heads of KV are shared where there are fewer of them than ranks."""
    width = memory.cache.shape[3]
    kv_ranks = min(ranks, width // memory.dim)
    cache = np.split(host(memory.cache), kv_ranks, axis=3)[rank * kv_ranks // ranks]
    queries = [parts(q, ranks)[rank] for q in memory.queries]
    return replace(memory, queries=queries, cache=device(np.ascontiguousarray(cache)))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(32, 8, 128), (32, 1, 64), (16, 2, 128)])
@pytest.mark.parametrize("ranks", RANKS)
def test_attention_of_some_heads(ranks, heads, kv_heads, dim, dtype):
    memory = paged([700], dtype, heads, kv_heads, dim)
    for run in (attend, decode):
        some = [run(each, each.every_row()) for each in (of_rank(memory, r, ranks) for r in range(ranks))]
        assert_same_bits(np.concatenate(some, axis=1), run(memory, memory.every_row()))

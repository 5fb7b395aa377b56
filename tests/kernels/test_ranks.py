"""What a rank computes of its columns or heads has the bits that one rank computes of all of them.

So a column-parallel layer and what follows it need no leaves (`matmul_leaves`) to be the same for any number
of ranks.
"""

import numpy as np
import pytest

from detrec.kernels.cpu.attention import attention
from detrec.kernels.cpu.matmul import matmul
from detrec.kernels.cpu.packed import pack_weight
from detrec.kernels.cpu.rms_norm import rms_norm
from detrec.kernels.cpu.rope import inv_freq, rope, rope_tables
from detrec.kernels.cpu.silu_mul import silu_mul
from tests.bits import assert_same_bits
from tests.kernels.test_attention import paged, sequence
from tests.kernels.test_matmul import fresh, rough

HEADS, KV_HEADS, D = 16, 8, 64


@pytest.mark.parametrize("ranks", [2, 4, 8])
# 1 x 544: four panels at once are cut within. 70 x 560 x 512: shared among threads.
@pytest.mark.parametrize(("rows", "columns", "depth"), [(1, 544, 37), (9, 208, 37), (70, 560, 512)])
def test_matmul_of_some_columns(rows, columns, depth, ranks):
    x, weight, bias = rough(rows, columns, depth)
    parts = [
        matmul(x, pack_weight(w), b, fresh(rows, columns // ranks))
        for w, b in zip(np.split(weight.unpacked(), ranks), np.split(bias, ranks), strict=True)
    ]
    assert_same_bits(np.concatenate(parts, axis=1), matmul(x, weight, bias, fresh(rows, columns)))


@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("length", [7, 150])
def test_attention_of_some_heads(length, ranks):
    whole = sequence(length, HEADS, KV_HEADS, D)

    def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        cached = paged([type(whole)(q, k, v)])
        rows, positions = np.zeros(length, np.int32), np.arange(length)
        return attention(q, cached.cache, cached.tables, rows, positions, D**-0.5, fresh(*q.shape))

    parts = [np.split(array, ranks, axis=1) for array in (whole.q, whole.k, whole.v)]
    some = [attend(*map(np.ascontiguousarray, part)) for part in zip(*parts, strict=True)]
    assert_same_bits(np.concatenate(some, axis=1), attend(whole.q, whole.k, whole.v))


@pytest.mark.parametrize("ranks", [2, 8])
def test_norm_and_rope_of_some_heads(ranks):
    q = sequence(150, HEADS, KV_HEADS, D).q
    weight, positions = np.linspace(0.5, 2, D, dtype=np.float32), np.arange(150)
    cos, sin = rope_tables(inv_freq(1e4, D), 150)

    def turn(x: np.ndarray) -> np.ndarray:
        lines = np.ascontiguousarray(x).reshape(-1, D)
        normed = rms_norm(lines, weight, 1e-6, fresh(*lines.shape)).reshape(150, -1)
        return rope(normed, positions, cos, sin, fresh(*normed.shape))

    some = [turn(part) for part in np.split(q, ranks, axis=1)]
    assert_same_bits(np.concatenate(some, axis=1), turn(q))


@pytest.mark.parametrize("ranks", [2, 8])
def test_gate_of_some_columns(ranks):
    x, _, _ = rough(70, 1, 1216)
    gates, ups = (np.split(half, ranks, axis=1) for half in np.split(x, 2, axis=1))
    some = [
        silu_mul(np.concatenate(pair, axis=1), fresh(70, 608 // ranks))
        for pair in zip(gates, ups, strict=True)
    ]
    assert_same_bits(np.concatenate(some, axis=1), silu_mul(x, fresh(70, 608)))

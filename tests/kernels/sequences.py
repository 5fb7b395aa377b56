"""Sequences in a paged KV cache, what attention makes of their rows, and what it is to make of one."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba import njit

from detrec.kernels.cpu.attention import KV_BLOCK, attention
from detrec.kernels.cpu.portable import exp32, fma
from tests.kernels.lanes import tree

HEADS, KV_HEADS, D = 6, 2, 64
# two full blocks of KV and a ragged one
LENGTH = 150


@dataclass(frozen=True)
class Sequence:
    """q [n, heads*D], k and v [n, kv_heads*D] of positions 0..n-1."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray


def sequence(
    length: int = LENGTH, heads: int = HEADS, kv_heads: int = KV_HEADS, dim: int = D, seed: int = 4
) -> Sequence:
    """Values over several orders of magnitude, so that a changed order of additions shows in the bits."""
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((length, n * dim)) for n in (heads, kv_heads, kv_heads))
    spread = 10.0 ** (np.arange(length) % 5 - 2)
    return Sequence(*(x.astype(np.float32) for x in (q, k, v * spread[:, None])))


@dataclass(frozen=True)
class Paged:
    """Sequences in a cache that is NaN wherever none of them is."""

    cache: np.ndarray
    tables: np.ndarray


def paged(sequences: list[Sequence], block_size: int = 16, seed: int = 6) -> Paged:
    """Their blocks in an order of chance."""
    counts = [-(-len(s.k) // block_size) for s in sequences]
    blocks = np.random.default_rng(seed).permutation(sum(counts) + 3)
    width, dtype = sequences[0].k.shape[1], sequences[0].k.dtype
    cache = np.full((len(blocks), block_size, 2, width), np.nan if dtype == np.float32 else 0x7FC1, dtype)
    tables = np.full((len(sequences), max(counts) + 1), -1, np.int32)
    for row, (s, count) in enumerate(zip(sequences, counts, strict=True)):
        tables[row, :count], blocks = blocks[:count], blocks[count:]
        position = np.arange(len(s.k))
        place = tables[row, position // block_size], position % block_size
        cache[(*place, 0)], cache[(*place, 1)] = s.k, s.v
    return Paged(cache, tables)


def attend(
    sequences: list[Sequence],
    rows: list[tuple[int, int]],
    memory: Paged | None = None,
    cut: int | None = None,
    dim: int = D,
) -> np.ndarray:
    """The output of rows (sequence, position), into memory that is NaN."""
    memory = memory or paged(sequences)
    queries = sequences[0].q
    q = np.array([sequences[s].q[p] for s, p in rows], queries.dtype).reshape(len(rows), queries.shape[1])
    row_seq, positions = np.array(rows, np.int64).reshape(-1, 2).T.copy()
    cuts = None if cut is None else np.full(len(rows), cut, np.int64)
    out = np.full(q.shape, np.nan if q.dtype == np.float32 else 0x7FC1, q.dtype)
    return attention(
        q, memory.cache, memory.tables, row_seq.astype(np.int32), positions, dim**-0.5, out, cuts
    )


def whole(s: Sequence, **options: object) -> np.ndarray:
    """Every row of one sequence at once."""
    return attend([s], [(0, p) for p in range(len(s.q))], **options)


@njit(error_model="numpy")
def visit(q, k, v, scale, lanes, acc, m):
    """One step of the online softmax, in the order that attention.py gives; lanes are left unsummed."""
    for j in range(len(k)):
        s = np.float32(0)
        for d in range(len(q)):
            s = fma(q[d], k[j, d], s)
        lanes[j] = scale * s
    new = max(m, lanes[: len(k)].max())
    alpha = exp32(m - new)
    acc *= alpha
    for j in range(len(k)):
        lanes[j] = exp32(lanes[j] - new)
        for d in range(len(q)):
            acc[d] = fma(lanes[j], v[j, d], acc[d])
    return new, alpha


def meant(s: Sequence, position: int, head: int, kv_head: int, dim: int, cut: int = 0) -> np.ndarray:
    """The definition for one row and head."""
    q = s.q[position, head * dim : (head + 1) * dim]
    k, v = (x[: position + 1, kv_head * dim : (kv_head + 1) * dim] for x in (s.k, s.v))
    acc, total, m = np.zeros(dim, np.float32), np.float32(0), np.float32(-np.inf)
    bounds = sorted({*range(0, position + 1, KV_BLOCK), min(cut, position + 1), position + 1})
    for low, high in pairwise(bounds):
        lanes, first = np.zeros(KV_BLOCK, np.float32), low % KV_BLOCK
        m, alpha = visit(q, k[low:high], v[low:high], np.float32(dim**-0.5), lanes[first:], acc, m)
        total = total * np.float32(alpha) + tree(lanes)
    return (acc + np.float32(0)) / total

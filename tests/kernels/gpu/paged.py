"""Sequences in a paged cache on the device, and attention of any of their rows as one step of an engine."""

from dataclasses import dataclass

import numpy as np

from detrec.engines.builtin.bfloat16 import widened
from detrec.kernels.cpu.attention import attention as cpu_attention
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.attention import AttentionPlan, attention, plan_decode, plan_step, scratch_bytes
from tests.kernels.gpu.device import device, floats, fresh, host, values

BOUNDS = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}

Row = tuple[int, int]
"""A row's sequence and position."""


@dataclass(frozen=True)
class Paged:
    """q float32 [n, heads*D] of each sequence; the cache, NaN wherever no sequence is; head_dim D."""

    queries: list[np.ndarray]
    cache: DeviceArray
    tables: np.ndarray
    dtype: str
    dim: int

    @property
    def group(self) -> int:
        """Heads that share one head of KV."""
        return self.queries[0].shape[1] // self.cache.shape[3]

    def every_row(self, sequence: int = 0) -> list[Row]:
        """All rows of one sequence."""
        return [(sequence, position) for position in range(len(self.queries[sequence]))]


def paged(
    lengths: list[int], dtype: str, heads: int, kv_heads: int, dim: int, page: int = 16, seed: int = 6
) -> Paged:
    """Sequences whose values do not depend on `page` or `seed`, which say how their blocks lie.

    Keys and values do not depend on `heads` either.
    """
    counts = [-(-length // page) for length in lengths]
    blocks = np.random.default_rng(seed).permutation(sum(counts) + 3)
    cache = np.full((len(blocks), page, 2, kv_heads * dim), np.nan, np.float32)
    tables = np.full((len(lengths), max(counts) + 1), -1, np.int32)
    queries = []
    for row, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        q, k, v = (
            np.random.default_rng((row, which)).standard_normal((length, n * dim), dtype=np.float32)
            for which, n in enumerate((heads, kv_heads, kv_heads))
        )
        tables[row, :count], blocks = blocks[:count], blocks[count:]
        at = np.arange(length)
        place = tables[row, at // page], at % page
        # over several orders of magnitude, so that a changed order of additions shows in the bits
        cache[(*place, 0)], cache[(*place, 1)] = k, v * 10.0 ** (at % 5 - 2)[:, None]
        queries.append(q)
    return Paged(queries, floats(cache, dtype), tables, dtype, dim)


def attend(
    memory: Paged, rows: list[Row | None], plan: AttentionPlan | None = None, gap: int = 0
) -> np.ndarray:
    """out of `rows` of one step, as it is stored; None is a padding row.

    `plan` is plan_step's by default; `gap` more columns stand between the rows of q and of out.
    """
    width = memory.queries[0].shape[1]
    row_seq = np.array([-1 if row is None else row[0] for row in rows], np.int32)
    positions = np.array([1 << 20 if row is None else row[1] for row in rows], np.int64)
    q = np.full((len(rows), width + gap), np.nan, np.float32)
    for at, row in enumerate(rows):
        if row is not None:
            q[at, :width] = memory.queries[row[0]][row[1]]
    plan = plan or plan_step(row_seq, positions, memory.group)
    heads, kv_heads = width // memory.dim, memory.cache.shape[3] // memory.dim
    out = fresh((len(rows), width + gap), memory.dtype)
    attention(
        floats(q, memory.dtype)[:, :width],
        memory.cache,
        device(memory.tables),
        device(row_seq),
        device(positions),
        plan,
        device(plan.table),
        memory.dim**-0.5,
        out[:, :width],
        fresh((max(scratch_bytes(plan, heads, kv_heads, memory.dim), 16),), "uint8"),
        memory.dim,
    )
    written = host(out)
    assert (written[:, width:].view(np.uint8) == 0xFF).all()
    return written[:, :width].copy()


def decode(memory: Paged, rows: list[Row | None]) -> np.ndarray:
    """out of `rows`, each by itself, as a captured graph runs them."""
    longest = max(len(q) for q in memory.queries)
    return attend(memory, rows, plan_decode(len(rows), longest + 700))


def cpu(memory: Paged, rows: list[Row]) -> np.ndarray:
    """What the CPU kernel gives for the same values, float32 [R, heads*D]."""
    q = values(floats(np.array([memory.queries[s][p] for s, p in rows]), memory.dtype))
    row_seq, positions = np.array(rows, np.int64).T.copy()
    return cpu_attention(
        q,
        values(memory.cache),
        memory.tables,
        row_seq.astype(np.int32),
        positions,
        memory.dim**-0.5,
        np.empty_like(q),
        head_dim=memory.dim,
    )


def close(out: np.ndarray, memory: Paged, rows: list[Row]) -> bool:
    """Whether `out` is the CPU kernel's but for the rounding of weights and results to the dtype."""
    found = widened(out) if memory.dtype == "bfloat16" else out.astype(np.float32)
    expected = cpu(memory, rows)
    # values lie between 0.01 and 100 times a normal: a weight's relative error shows at the largest of a row
    bound = BOUNDS[memory.dtype] * np.abs(expected).max(axis=1, keepdims=True)
    return bool((np.abs(found - expected) <= bound).all())

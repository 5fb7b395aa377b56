"""What attention means, bit for bit, and that a row sees its own sequence up to its own position alone."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from detrec.kernels.cpu import attention as module
from detrec.kernels.cpu.attention import attention
from tests.bits import assert_same_bits
from tests.kernels.lanes import bfloat16, floats
from tests.kernels.sequences import HEADS, LENGTH, D, Sequence, attend, meant, paged, sequence, whole


# 8: less than a vector. 24, 80: ragged strips of columns. 64, 128: whole ones.
@pytest.mark.parametrize("dim", [8, 24, 32, 64, 80, 128])
@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 2), (3, 3), (7, 1)])
def test_an_element_is_its_definition(heads, kv_heads, dim):
    s = sequence(heads=heads, kv_heads=kv_heads, dim=dim)
    rows = [0, 1, 7, 62, 63, 64, 65, 127, 128, 149]
    out = attend([s], [(0, p) for p in rows], dim=dim)
    group = heads // kv_heads
    expected = [np.concatenate([meant(s, p, h, h // group, dim) for h in range(heads)]) for p in rows]
    assert_same_bits(out, np.array(expected))


@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 2), (3, 3)])
def test_means_softmax_of_scaled_scores_times_values(heads, kv_heads):
    s = sequence(heads=heads, kv_heads=kv_heads)
    q = s.q.reshape(LENGTH, kv_heads, heads // kv_heads, D).astype(np.float64)
    k, v = (x.reshape(LENGTH, kv_heads, D).astype(np.float64) for x in (s.k, s.v))
    scores = np.einsum("rhgd,jhd->hgrj", q, k) / np.sqrt(D)
    scores[..., np.triu(np.ones((LENGTH, LENGTH), bool), 1)] = -np.inf
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    expected = np.einsum("hgrj,jhd->rhgd", p, v).reshape(LENGTH, -1)
    scale = np.einsum("hgrj,jhd->rhgd", p, np.abs(v)).reshape(LENGTH, -1)
    # a score of up to 5 is off by a few ulp, and so is the weight it gives; a chain of 150 adds a few more
    assert (np.abs(whole(s) - expected) <= 4e-6 * scale).all()


def test_decode_gives_the_bits_of_prefill():
    s = sequence()
    memory = paged([s])
    decoded = np.concatenate([attend([s], [(0, p)], memory) for p in range(LENGTH)])
    assert_same_bits(decoded, whole(s))


@pytest.mark.parametrize("cuts", [(1,), (16, 32), (5, 70, 71), (63, 64, 65), (149,)])
def test_where_a_chunk_was_cut_does_not_show(cuts):
    s = sequence()
    bounds = [0, *cuts, LENGTH]
    chunks = [attend([s], [(0, p) for p in range(*bound)]) for bound in pairwise(bounds)]
    assert_same_bits(np.concatenate(chunks), whole(s))


def test_row_does_not_see_its_batch():
    sequences = [sequence(length, seed=length) for length in (150, 3, 64, 97)]
    alone = {(i, p): row for i, s in enumerate(sequences) for p, row in enumerate(whole(s))}
    rng = np.random.default_rng(1)
    places = list(alone)
    decodes = [(i, len(s.q) - 1) for i, s in enumerate(sequences)]
    prefill = [(0, p) for p in range(40, 90)] + decodes[1:]
    for rows in (places, [places[i] for i in rng.permutation(len(places))], decodes, prefill):
        assert_same_bits(attend(sequences, rows), np.array([alone[place] for place in rows]))


# 12: blocks that are no multiple of a square of keys. 128: blocks wider than a block of KV.
@pytest.mark.parametrize("block_size", [1, 8, 12, 16, 32, 64, 128])
def test_where_the_cache_keeps_a_block_does_not_show(block_size):
    s = sequence()
    for seed in (6, 7):
        assert_same_bits(whole(s, memory=paged([s], block_size, seed)), whole(s))


def test_thread_count_does_not_move_a_bit(monkeypatch):
    s = sequence()
    monkeypatch.setattr(module, "SERIAL", 1 << 60)
    serial = whole(s)
    monkeypatch.setattr(module, "SERIAL", 0)
    for threads in (1, 2, 3, 64):
        monkeypatch.setattr(module, "get_num_threads", lambda threads=threads: threads)
        assert_same_bits(whole(s), serial)


def digest() -> str:
    """A hash of the bits of a prefill and of a decode."""
    s, ragged = sequence(), sequence(70, heads=2, kv_heads=1, dim=24)
    parts = whole(s), attend([s], [(0, 149)]), whole(ragged, dim=24)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, id="a CPU without AVX or FMA"),
        pytest.param({"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}, id="a CPU with AVX2"),
    ],
)
def test_another_cpu_gives_the_same_bits(environment):
    run = subprocess.run(
        [sys.executable, "-c", "from tests.kernels.test_attention import digest; print(digest())"],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == digest(), run.stderr


@pytest.mark.parametrize("cut", [1, 40, 63, 65, 100])
def test_rough_rows_tell_one_partition_from_another(cut):
    """Negative control: if this fails, the tests above can pass on a kernel that is not invariant."""
    s = sequence()
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(whole(s, cut=cut), whole(s))


@pytest.mark.parametrize("cut", [0, 64, 128, 150, 1000])
def test_a_cut_at_a_block_or_past_the_row_is_no_cut(cut):
    s = sequence()
    assert_same_bits(whole(s, cut=cut), whole(s))


@pytest.mark.parametrize("cut", [1, 40, 65, 100])
def test_a_cut_is_one_more_boundary(cut):
    s = sequence()
    expected = [
        np.concatenate([meant(s, p, h, h // 3, D, cut) for h in range(HEADS)]) for p in range(60, LENGTH)
    ]
    assert_same_bits(whole(s, cut=cut)[60:], np.array(expected))


def test_rows_of_two_cuts_do_not_mix():
    s = sequence()
    memory = paged([s])
    cuts = np.array([0, 40, 40, 100, 0], np.int64)
    positions = np.arange(145, 150)
    out = np.empty_like(s.q[145:])
    attention(s.q[145:], memory.cache, memory.tables, np.zeros(5, np.int32), positions, D**-0.5, out, cuts)
    alone = [attend([s], [(0, p)], memory, int(cut))[0] for p, cut in zip(positions, cuts, strict=True)]
    assert_same_bits(out, np.array(alone))


def test_a_later_position_never_reaches_an_earlier_row():
    s = sequence()
    k, v = s.k.copy(), s.v.copy()
    k[70:], v[70:] = np.nan, np.inf
    assert_same_bits(whole(replace(s, k=k, v=v))[:70], whole(s)[:70])


def test_bfloat16_is_its_widened_values_and_one_rounding():
    s = sequence()
    stored = Sequence(*(bfloat16(x) for x in (s.q, s.k, s.v)))
    widened = Sequence(*(floats(x) for x in (stored.q, stored.k, stored.v)))
    assert_same_bits(whole(stored), bfloat16(whole(widened)))


def test_queries_at_a_stride_are_queries():
    s = sequence()
    wide = np.pad(s.q, ((0, 0), (3, 5)))
    assert_same_bits(whole(replace(s, q=wide[:, 3:-5])), whole(s))


def test_a_scale_of_its_own_needs_the_head_dim():
    s = sequence(9)
    memory = paged([s])
    rows = np.zeros(9, np.int32), np.arange(9)
    out = np.empty_like(s.q)
    with pytest.raises(ValueError, match="which must then be given"):
        attention(s.q, memory.cache, memory.tables, *rows, 0.126, out)
    attention(s.q, memory.cache, memory.tables, *rows, 0.125, out, head_dim=D)
    assert_same_bits(out, whole(s))


def test_no_rows():
    s = sequence(3)
    assert attend([s], []).shape == (0, HEADS * D)


SHORT = sequence(3)
MEMORY = paged([SHORT])
GOOD = {
    "q": SHORT.q,
    "cache": MEMORY.cache,
    "block_tables": MEMORY.tables,
    "row_seq": np.zeros(3, np.int32),
    "positions": np.arange(3),
    "scale": D**-0.5,
    "out": np.empty_like(SHORT.q),
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("q", SHORT.q[:, :-D], id="heads that do not share KV evenly"),
        pytest.param("q", SHORT.q[0], id="a vector"),
        pytest.param("out", np.empty((4, HEADS * D), np.float32), id="too many rows out"),
        pytest.param("out", np.empty((3, 2 * HEADS * D), np.float32)[:, : HEADS * D], id="out at a stride"),
        pytest.param("cache", MEMORY.cache[:, :, :1], id="keys alone"),
        pytest.param("cache", MEMORY.cache[::2], id="blocks at a stride"),
        pytest.param("cache", MEMORY.cache[..., :-8].copy(), id="a ragged head"),
        pytest.param("cache", MEMORY.cache[:0], id="no blocks"),
        pytest.param("block_tables", MEMORY.tables[0], id="one table as a vector"),
        pytest.param("block_tables", MEMORY.tables.astype(np.int64), id="int64 tables"),
        pytest.param("block_tables", np.full((1, 2), 4, np.int32), id="a block past the cache"),
        pytest.param("row_seq", np.array([0, 0, 1], np.int32), id="a sequence that is not there"),
        pytest.param("row_seq", np.array([0, -1, 0], np.int32), id="a negative sequence"),
        pytest.param("positions", np.array([0, 1, 16]), id="a position without a block"),
        pytest.param("positions", np.array([0, 1, 1 << 40]), id="a position past the table"),
        pytest.param("positions", np.array([0, -1, 2]), id="a negative position"),
        pytest.param("positions", np.arange(4), id="too many positions"),
        pytest.param("cut", np.zeros(3, np.int32), id="int32 cuts"),
        pytest.param("head_dim", 60, id="heads of no multiple of 8"),
        pytest.param("head_dim", 512, id="heads past 256"),
        pytest.param("head_dim", 0, id="heads of nothing"),
    ],
)
def test_rejects(name, value):
    with pytest.raises(ValueError, match=r"^attention: "):
        attention(**{**GOOD, name: value})

"""Fingerprints compared in blocks: bounded memory, no reads for nothing, counts whatever the blocks."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from detrec.replayer.align import Places, align
from detrec.replayer.cells import Pairs, compare_cells
from detrec.replayer.columns import columns_of
from detrec.replayer.compare import compare
from detrec.replayer.gather import Gather
from detrec.replayer.lanes import Lanes
from tests.replayer.fakes import OPS, fake_trace, part

LONG = [
    [part("r0", 0, 24)],
    *([part("r0", at, at + 1), part("r1", at - 24, at - 23)] for at in range(24, 50)),
]


def traces(digests: bool, change: bool):
    recorded, replayed = fake_trace(LONG, digests=digests), fake_trace(LONG, digests=digests)
    if change:
        replayed.change("r0", 30, "0.attn")
        replayed.change("r1", 3, "sampled")
    return recorded, replayed


@pytest.mark.parametrize("change", [False, True], ids=["equal", "changed"])
def test_a_chunk_of_equal_digest_counts_like_one_that_was_read(change):
    read, skipped = compare(*traces(False, change)), compare(*traces(True, change))
    assert skipped.counts == read.counts
    assert skipped.first == read.first
    assert read.unread == 0
    # 76 rows: 19 whole chunks of four
    assert skipped.unread > skipped.counts.compared * (0.8 if change else 0.99)


def test_a_chunk_of_equal_digest_is_not_read():
    recorded, replayed = traces(True, False)
    compare(recorded, replayed)
    # the first chunk, for the ops of all rows, and that of the first draw, and the tail that has no digest
    assert len(recorded.read) <= 3
    assert len(replayed.read) <= 3


def test_a_shift_by_whole_chunks_is_skipped_and_any_other_shift_is_read():
    for extra, unread in ((4, True), (3, False)):
        recorded = fake_trace([[part("r1", 0, 8)]], digests=True)
        replayed = fake_trace(
            [[part("r0", 0, extra, False)], [part("r1", 0, 8)]], digests=True, status="complete"
        )
        found = compare(recorded, replayed)
        assert (found.unread > 0) is unread
        assert found.counts.compared == 7 * (len(OPS) - 2) + len(OPS)


def test_a_chunk_whose_rows_lie_in_two_chunks_of_the_other_run_is_read():
    recorded = fake_trace([[part("r0", 0, 2), part("r1", 0, 2)]], digests=True)
    steps = [[part("r0", 0, 2), part("r2", 0, 4, samples=False), part("r1", 0, 2)]]
    replayed = fake_trace(steps, digests=True)
    replayed.cells[:, :4] = recorded.cells
    replayed.change("r1", 1, "embedding")
    assert compare(recorded, replayed).first.op == "embedding"


def test_equal_bytes_in_another_order_of_rows_are_not_equal_rows():
    recorded = fake_trace([[part("r0", 0, 2), part("r1", 0, 2)]], digests=True)
    replayed = fake_trace([[part("r1", 0, 2), part("r0", 0, 2)]], digests=True)
    replayed.cells[:] = recorded.cells
    assert compare(recorded, replayed).counts.equal == 0


def test_equal_bytes_some_rows_further_on_are_not_equal_rows():
    recorded = fake_trace([[part("r1", 0, 8)]], digests=True)
    replayed = fake_trace([[part("r0", 0, 3, False)], [part("r1", 0, 8)]], digests=True)
    replayed.cells[:, :4] = recorded.cells[:, :4]
    assert compare(recorded, replayed).counts.equal == 7 * (len(OPS) - 2) + 2


def test_digests_of_other_ops_prove_nothing():
    layers = tuple(name for name in OPS if "." not in name or name.endswith("output"))
    recorded, replayed = fake_trace(LONG, digests=True), fake_trace(LONG, ops=layers, digests=True)
    assert compare(recorded, replayed).unread == 0


def plain_pairs(recorded, replayed) -> Pairs:
    runs = [
        Places(t.row_request, t.row_position, t.row_step * 0, np.zeros(3, int)) for t in (recorded, replayed)
    ]
    rows = align(*runs)
    at = rows.recorded
    return Pairs(at, rows.replayed, runs[0].request[at], runs[0].generation[at], runs[0].position[at])


@pytest.mark.parametrize("block_bytes", [1, 400, 1 << 20])
def test_the_size_of_a_block_changes_nothing(block_bytes):
    rng = np.random.default_rng(5)
    recorded, replayed = fake_trace(LONG), fake_trace([*LONG[:1], *(step[::-1] for step in LONG[1:])])
    replayed.cells[rng.random(replayed.cells.shape) < 0.1] += np.uint64(1 << 40)
    columns, pairs = columns_of(recorded, replayed), plain_pairs(recorded, replayed)
    mask = np.ones((len(OPS), 1), bool)
    cells, rows = compare_cells(recorded, replayed, columns, pairs, pairs[:0], mask, block_bytes=block_bytes)
    whole, all_rows = compare_cells(recorded, replayed, columns, pairs, pairs[:0], mask)
    assert (cells.compared, cells.divergent, cells.missing) == (
        whole.compared,
        whole.divergent,
        whole.missing,
    )
    assert rows.row.tolist() == all_rows.row.tolist()
    assert rows.cells.tolist() == all_rows.cells.tolist()


@pytest.mark.parametrize("cache_bytes", [1, 1000, 1 << 20])
def test_rows_are_gathered_in_any_order_from_a_cache_of_any_size(cache_bytes):
    trace = fake_trace(LONG, ranks=2)
    rng = np.random.default_rng(1)
    columns = np.array([3, 1, 2])
    gather = Gather(trace, columns, Lanes((0, 1), 2), cache_bytes=cache_bytes)
    for rows in (rng.integers(0, trace.n_rows, 40), np.arange(9, 30), np.zeros(0, np.int64)):
        for ops in (np.array([0, 2]), np.array([1, 2])):
            expected = np.moveaxis(trace.cells[:, rows][:, :, columns[ops]], 0, 2)
            assert np.array_equal(gather.take(rows, ops), expected)


class LazyTrace(SimpleNamespace):
    """Rows of one long request, made when they are read; every 1000th row differs from op `broken` on."""

    def fingerprints(self, start: int, stop: int, rank: int = 0, *, checked: bool = True) -> np.ndarray:
        cells = np.arange(start, stop, dtype=np.uint64)[:, None] * 64 + np.arange(
            1, len(self.ops) + 1, dtype=np.uint64
        )
        cells[(np.arange(start, stop) % 1000 == 0), self.broken :] += np.uint64(1 << 40)
        return cells

    def fingerprint_digest(self, rank: int, chunk: int) -> None:
        return None


def lazy_trace(rows: int, ops: int, broken: int) -> LazyTrace:
    names = tuple(f"{i}.output" for i in range(ops))
    return LazyTrace(ops=names, n_rows=rows, ranks=1, fingerprint_chunk_rows=8192, broken=broken)


def test_memory_does_not_grow_with_the_trace():
    rows, ops = 200_000, 50
    recorded, replayed = lazy_trace(rows, ops, ops), lazy_trace(rows, ops, 20)
    at, none = np.arange(rows), np.zeros(rows, np.int32)
    pairs = Pairs(at, at, none, none, at.astype(np.int32))
    mask = np.ones((ops, 1), bool)
    tracemalloc.start()
    cells, found = compare_cells(recorded, replayed, columns_of(recorded, replayed), pairs, pairs[:0], mask)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 80 MB a trace, of which each side keeps 48
    assert peak < 128 << 20
    assert (cells.compared, cells.divergent, len(found)) == (rows * ops, 200 * 30, 200)

"""What threads have of an array is bounded, and is the same bytes as without them."""

import time
from pathlib import Path

import numpy as np
import pytest

from detrec.recorder import column
from detrec.recorder.chunk_threads import ChunkThreads
from detrec.recorder.column import Column
from detrec.recorder.schema import ArraySpec
from detrec.recorder.store import LocalStore
from tests.recorder.runs import files_of

SPEC = ArraySpec("fingerprints/0", "uint64", ("row", "op"), 8, "rows", 3, compressed=False)
# rows at once: a part of a chunk, the rest of it and several whole ones, one that ends with a chunk
PUT = (5, 31, 4, 1, 39)


def column_of(store: LocalStore, threads: ChunkThreads | None) -> Column:
    return Column(SPEC, store, np.zeros(SPEC.shape(SPEC.chunk), np.uint64), threads)


def test_threads_write_the_same_and_never_have_more_than_they_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(column, "WORTH", 1)
    monkeypatch.setattr(column, "TOGETHER", 1)
    monkeypatch.setattr(column, "AHEAD", 2 * SPEC.chunk * SPEC.row_bytes)
    patch = LocalStore.patch

    def slow(self: LocalStore, *args: object) -> None:
        time.sleep(0.005)
        patch(self, *args)

    monkeypatch.setattr(LocalStore, "patch", slow)
    values = np.random.default_rng(6).integers(1, 2**63, (sum(PUT), 3), dtype=np.uint64)
    stores = [LocalStore(tmp_path / name) for name in ("alone", "threads")]
    alone, shared = column_of(stores[0], None), column_of(stores[1], ChunkThreads(stores[1]))
    start, most = 0, 0
    for rows in PUT:
        for one in (alone, shared):
            one.put(start, values[start : start + rows])
            one.keep_up()
        most = max(most, len(shared._going))
        start += rows
    assert most == 2
    shared.settle()
    assert shared.settled
    assert shared.digests == alone.digests
    assert shared.tail() == alone.tail()
    assert len(shared.digests) == start // SPEC.chunk
    assert dict(files_of(tmp_path / "alone")) == dict(files_of(tmp_path / "threads"))


def test_little_is_brought_up_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are fewer than is worth a file's opening wait in memory; a commit asks for them itself."""
    monkeypatch.setattr(column, "TOGETHER", 2 * SPEC.row_bytes)
    values = np.random.default_rng(7).integers(1, 2**63, (3, 3), dtype=np.uint64)
    one = column_of(LocalStore(tmp_path), None)
    kept = tmp_path / SPEC.key(0)
    one.put(0, values[:1])
    one.keep_up()
    assert not kept.exists()
    one.put(1, values[1:2])
    one.keep_up()
    assert kept.read_bytes()[: 2 * SPEC.row_bytes] == values[:2].tobytes()
    one.put(2, values[2:])
    one.keep_up()
    assert one.unstored() == (2 * SPEC.row_bytes, 3 * SPEC.row_bytes)
    one.patch()
    assert kept.read_bytes()[: 3 * SPEC.row_bytes] == values.tobytes()

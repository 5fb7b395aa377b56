"""What goes into a trace comes out of it."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from detrec.config import SamplingParams
from detrec.engines.base import Kind, Request, Sample, Slice, Step
from detrec.errors import TraceCorrupt, TraceError, TraceIncomplete
from detrec.recorder.reader import TraceReader
from detrec.recorder.steps import Record
from detrec.recorder.writer import TraceWriter
from tests.bits import assert_same_bits
from tests.recorder.held import URL, assert_holds
from tests.recorder.runs import OPS, Run, open_writer


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_trace_gives_back_what_was_recorded(tmp_path: Path, small_chunks: None, ranks: int) -> None:
    run = Run(ranks=ranks)
    run.record(tmp_path / "run.zarr", commit_steps=4)
    reader = TraceReader(tmp_path / "run.zarr")
    assert (reader.status, reader.reason, reader.ranks) == ("complete", "", ranks)
    reader.require_complete()
    assert_holds(reader, run, 25)


@pytest.mark.parametrize("steps", [1, 7, 16, 24])
def test_a_trace_can_be_read_as_if_its_recorder_had_stopped(
    tmp_path: Path, small_chunks: None, steps: int
) -> None:
    run = Run(ranks=2)
    run.record(tmp_path / "run.zarr", commit_steps=4)
    reader = TraceReader(tmp_path / "run.zarr", steps=steps)
    assert (reader.status, reader.all_steps) == ("partial", 25)
    assert_holds(reader, run, steps)
    # a chunk that goes on after the last row says nothing of the rows before it
    assert reader.fingerprint_digest(0, reader.n_rows // reader.fingerprint_chunk_rows) is None


def test_all_steps_of_a_trace_are_no_part_of_it(tmp_path: Path, small_chunks: None) -> None:
    Run().record(tmp_path / "run.zarr")
    assert TraceReader(tmp_path / "run.zarr", steps=25).status == "complete"
    assert TraceReader(tmp_path / "run.zarr", steps=99).n_steps == 25


def test_rows_of_a_chunk_that_was_checked_are_read_alone(tmp_path: Path, small_chunks: None) -> None:
    run = Run()
    run.record(tmp_path / "run.zarr")
    reader = TraceReader(tmp_path / "run.zarr")
    rows = np.array([1, 2, 3, 7, 15])
    assert reader.vouched_fingerprints(1, rows) is None
    whole = reader.fingerprints(16, 32)
    found = reader.vouched_fingerprints(1, rows)
    assert found is not None
    assert_same_bits(found, whole[rows])
    file = tmp_path / "run.zarr/fingerprints/0/c/1/0"
    file.write_bytes(file.read_bytes()[: 8 * len(OPS) * 10])
    assert_same_bits(reader.vouched_fingerprints(1, rows[:4]), whole[rows[:4]])
    with pytest.raises(TraceCorrupt, match="fingerprints/0/c/1/0: is missing or cut off"):
        reader.vouched_fingerprints(1, rows)


def test_rows_of_a_chunk_at_a_url_are_the_same(small_chunks: None) -> None:
    Run().record(URL)
    reader = TraceReader(URL)
    whole, rows = reader.fingerprints(0, 16), np.array([0, 4, 5])
    assert_same_bits(reader.vouched_fingerprints(0, rows), whole[rows])


def test_a_trace_that_is_being_recorded_is_read_up_to_its_last_commit(
    tmp_path: Path, small_chunks: None
) -> None:
    run = Run()
    writer = open_writer(tmp_path / "run.zarr", commit_steps=7)
    run.write(writer)
    reader = TraceReader(tmp_path / "run.zarr")
    assert reader.status == "recording"
    with pytest.raises(TraceIncomplete, match="never closed"):
        reader.require_complete()
    # a chunk of fingerprints is full after 16 rows, so commits come before the seventh step too
    assert reader.n_steps >= 14
    assert_holds(reader, run, reader.n_steps)


def test_a_trace_of_no_steps_can_be_read(tmp_path: Path) -> None:
    with open_writer(tmp_path / "run.zarr"):
        assert TraceReader(tmp_path / "run.zarr").n_steps == 0
    reader = TraceReader(tmp_path / "run.zarr")
    assert (list(reader.steps()), reader.taken_tokens()) == ([], {"a": [], "b": [], "never ran": []})
    assert reader.fingerprints(0, 0).shape == (0, len(OPS))
    assert reader.samples().finish.tolist() == []


def test_no_requests(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "run.zarr", manifest={}, requests=(), ops=("x",)):
        pass
    assert TraceReader(tmp_path / "run.zarr").requests == ()


def test_any_fsspec_url_works_where_a_path_does(small_chunks: None) -> None:
    run = Run()
    run.record(URL, commit_steps=4, overwrite=True)
    assert_holds(TraceReader(URL), run, 25)
    with pytest.raises(TraceError, match="exists already"):
        run.record(URL)
    Run(seed=1).record(URL, overwrite=True)
    assert_holds(TraceReader(URL), Run(seed=1), 25)


def test_zarr_reads_the_same_arrays(tmp_path: Path, small_chunks: None) -> None:
    Run(ranks=2).record(tmp_path / "run.zarr", commit_steps=4)
    reader = TraceReader(tmp_path / "run.zarr")
    root = zarr.open_group(tmp_path / "run.zarr", mode="r")
    assert root.attrs["status"] == "complete"
    seen = 0
    for group in ("steps", "events", "slices", "rows", "samples", "kernels", "fingerprints"):
        for name, array in root[group].arrays():
            expected = (
                reader.fingerprints(0, reader.n_rows, int(name))
                if group == "fingerprints"
                else reader.column(f"{group}/{name}")
            )
            assert_same_bits(np.asarray(array[:]), expected)
            assert len(array.metadata.dimension_names) == expected.ndim
            seen += 1
    assert seen == 34
    assert root["requests/prompt"][:].tolist() == [5, 6, 7, 9, 1, 2]


def test_of_a_position_sampled_twice_the_latest_token_counts(tmp_path: Path) -> None:
    prints, kernels = np.ones((1, len(OPS)), np.uint64), ("k",) * len(OPS)
    with open_writer(tmp_path / "run.zarr") as writer:
        for index, (position, taken) in enumerate([(3, 30), (2, 20), (3, 31)]):
            step = Step(index, (Slice("a", position, position + 1, Kind.DECODE, True),))
            sample = Sample("a", position, 1, taken, 0.0, 0.0, 0, 0)
            writer.step(Record(step, [1], prints, kernels, [sample], (), 0.0))
    assert TraceReader(tmp_path / "run.zarr").taken_tokens()["a"] == [20, 31]


def test_taken_tokens_are_in_order_of_position(tmp_path: Path) -> None:
    run = Run()
    run.record(tmp_path / "run.zarr")
    taken = {"a": {}, "b": {}, "never ran": {}}  # type: dict[str, dict[int, int]]
    for played in run.played:
        for sample in played.samples:
            taken[sample.request][sample.position] = sample.taken
    expected = {name: [tokens[at] for at in sorted(tokens)] for name, tokens in taken.items()}
    assert TraceReader(tmp_path / "run.zarr").taken_tokens() == expected


def test_only_full_chunks_of_fingerprints_have_digests(tmp_path: Path, small_chunks: None) -> None:
    Run().record(tmp_path / "one.zarr")
    Run().record(tmp_path / "two.zarr", commit_steps=3)
    one, two = TraceReader(tmp_path / "one.zarr"), TraceReader(tmp_path / "two.zarr")
    full = one.n_rows // one.fingerprint_chunk_rows
    found = [one.fingerprint_digest(0, chunk) for chunk in range(full)]
    assert len(set(found)) == full
    assert None not in found
    assert found == [two.fingerprint_digest(0, chunk) for chunk in range(full)]
    assert one.fingerprint_digest(0, full) is None


def test_a_million_rows_open_whole(tmp_path: Path) -> None:
    request = Request("a", (1,), SamplingParams(seed=1))
    with TraceWriter(tmp_path / "run.zarr", manifest={}, requests=(request,), ops=("x",)) as writer:
        rows = 50_000
        prints = np.ones((rows, 1), np.uint64)
        for index in range(20):
            part = Slice("a", index * rows, (index + 1) * rows, Kind.PREFILL, False)
            tokens = np.arange(rows) % 49152
            writer.step(Record(Step(index, (part,)), tokens, prints, ("k",), (), (), 0.0))
    reader = TraceReader(tmp_path / "run.zarr")
    assert (reader.row_position == np.arange(1_000_000)).all()
    assert (reader.row_step == np.repeat(np.arange(20), rows)).all()
    assert (reader.row_token == np.tile(np.arange(rows) % 49152, 20)).all()
    assert len(reader.row_request) == 1_000_000

"""Ranks write one trace with neither lock nor message, and what it claims is on disk, whoever dies when."""

import json
from pathlib import Path
from typing import Any

import pytest

from detrec.errors import RankLost, TraceCorrupt, TraceError
from detrec.recorder.progress import Progress, progress_file, read_progress
from detrec.recorder.rank_writer import RankWriter
from detrec.recorder.reader import TraceReader
from detrec.recorder.steps import Record
from detrec.recorder.store import LocalStore
from detrec.recorder.verify import verify
from detrec.recorder.writer import TraceWriter
from tests.recorder.endings import CtrlC
from tests.recorder.held import assert_holds, content
from tests.recorder.runs import KINDS, Run, files_of, open_writer, write_step


def start(path: Path, ranks: int = 2, **options: Any) -> tuple[TraceWriter, RankWriter]:
    """Rank 0 and rank 1 of a recording; every step is flushed and committed."""
    writer = open_writer(path, ranks=ranks, commit_steps=1, **options)
    return writer, RankWriter(path, 1, uuid=writer.uuid, flush_steps=1)


def play(run: Run, writer: TraceWriter | RankWriter, start: int, stop: int) -> None:
    rank = writer.rank if isinstance(writer, RankWriter) else 0
    for played in run.played[start:stop]:
        write_step(writer, played, rank)


def test_a_step_is_committed_when_every_rank_has_it(tmp_path: Path, small_chunks: None) -> None:
    path, run = tmp_path / "run.zarr", Run(ranks=2)
    writer, other = start(path)
    # whole chunks and parts of one, of either rank before the other
    for ours, theirs in ((6, 4), (6, 14), (9, 14), (20, 14), (20, 15), (20, 20)):
        play(run, other, other._progress.steps, theirs)
        play(run, writer, writer._counts["steps"] + len(writer._pending), ours)
        writer.commit()
        reader = TraceReader(path)
        assert reader.n_steps == min(ours, theirs)
        assert_holds(reader, run, reader.n_steps)
        assert verify(path).steps == reader.n_steps
    play(run, other, 20, 25)
    other.close()
    # rank 1 is done, rank 0 is not
    assert_holds(TraceReader(path), run, 20)
    verify(path)
    play(run, writer, 20, 25)
    writer.close()
    assert_holds(TraceReader(path), run, 25)
    assert TraceReader(path).kinds == KINDS
    verify(path)


def test_the_final_bytes_are_those_of_the_run(tmp_path: Path, small_chunks: None) -> None:
    run = Run(ranks=3)
    run.record(tmp_path / "one.zarr", commit_steps=1)
    writer = open_writer(tmp_path / "two.zarr", ranks=3)
    others = [RankWriter(tmp_path / "two.zarr", rank, uuid=writer.uuid, flush_steps=rank) for rank in (1, 2)]
    for ours in (others[1], others[0], writer):
        play(run, ours, 0, 25)
        ours.close()
    assert content(tmp_path / "one.zarr") == content(tmp_path / "two.zarr")
    assert not [key for key, _ in files_of(tmp_path / "two.zarr") if "rank" in key or "partial" in key]


def test_a_flipped_bit_of_any_rank_is_found(tmp_path: Path, small_chunks: None) -> None:
    path, run = tmp_path / "run.zarr", Run(ranks=2)
    writer, other = start(path, rank_seconds=0.0)
    play(run, other, 0, 25)
    play(run, writer, 0, 20)

    def flipped(chunk: int) -> None:
        file = path / f"fingerprints/1/c/{chunk}/0"
        data = file.read_bytes()
        file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        with pytest.raises(TraceCorrupt, match=f"fingerprints/1/c/{chunk}/0"):
            verify(path)
        file.write_bytes(data)

    last = sum(played.step.rows for played in run.played) // 16
    for chunk in range(last + 1):
        flipped(chunk)
    writer.fail("tired")
    for chunk in range(last + 1):
        flipped(chunk)
    verify(path)


def test_a_rank_that_does_not_close_is_named_and_the_trace_fails(tmp_path: Path) -> None:
    path, run = tmp_path / "run.zarr", Run(ranks=2)
    writer, other = start(path, rank_seconds=0.0)

    def leaving() -> None:
        with writer:
            play(run, other, 0, 7)
            play(run, writer, 0, 9)

    with pytest.raises(TraceError, match="rank 1, which has written 7 of 9 steps: did not close in 0 s"):
        leaving()
    reader = TraceReader(path)
    assert (reader.status, reader.n_steps) == ("failed", 7)
    assert_holds(reader, run, 7)
    # it lives on for a moment, and then closes
    play(run, other, 7, 12)
    other.close()
    assert_holds(TraceReader(path), run, 7)
    verify(path)


def test_a_rank_that_failed_says_why_and_nobody_waits(tmp_path: Path) -> None:
    path, run = tmp_path / "run.zarr", Run(ranks=2)
    writer, other = start(path, rank_seconds=1000.0)

    def failing() -> None:
        with other:
            play(run, other, 0, 4)
            raise MemoryError("no more")

    with pytest.raises(MemoryError):
        failing()
    play(run, writer, 0, 5)
    with pytest.raises(TraceError, match="rank 1, which has written 4 of 5 steps: MemoryError: no more"):
        writer.close()


def test_a_rank_that_died_is_not_waited_for(tmp_path: Path) -> None:
    path, run = tmp_path / "run.zarr", Run(ranks=2)
    deaths = iter([None, None, RankLost("rank 1 (process 7) died")])

    def alive() -> None:
        if death := next(deaths):
            raise death

    writer, other = start(path, rank_seconds=1000.0, alive=alive)
    play(run, other, 0, 4)
    with pytest.raises(RankLost, match="rank 1"), writer:
        play(run, writer, 0, 5)
    reader = TraceReader(path)
    assert (reader.status, reader.n_steps) == ("failed", 4)
    verify(path)


def test_ranks_that_ran_other_steps_do_not_make_a_trace(tmp_path: Path) -> None:
    path, run = tmp_path / "run.zarr", Run(ranks=2)
    writer, other = start(path)
    play(run, other, 0, 6)
    play(run, writer, 0, 5)
    other.close()
    with pytest.raises(TraceError, match="rank 1 closed after 6 steps, rank 0 after 5"):
        writer.close()


@pytest.mark.parametrize("at", range(9, 60, 4))
def test_ctrl_c_inside_a_flush_loses_no_step(
    tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    path, run = tmp_path / "run.zarr", Run(ranks=2)
    writer = open_writer(path, ranks=2)
    other = RankWriter(path, 1, uuid=writer.uuid, flush_steps=1)
    CtrlC(monkeypatch).after(at)
    with pytest.raises(KeyboardInterrupt), other:
        play(run, other, 0, 25)
    play(run, writer, 0, 25)
    writer.fail("rank 1 was interrupted")
    reader = TraceReader(path)
    assert reader.n_steps == other._progress.steps > 0
    assert_holds(reader, run, reader.n_steps)
    verify(path)


def test_another_trace_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    Run(ranks=2).record(path)
    closed = TraceReader(path).uuid
    with pytest.raises(TraceError, match=f"is trace {closed}, complete"):
        RankWriter(path, 1, uuid=closed)
    writer = open_writer(path, ranks=2, overwrite=True)
    with pytest.raises(TraceError, match=f"rank 1 is of {closed}"):
        RankWriter(path, 1, uuid=closed)
    with pytest.raises(ValueError, match="rank 2 is not one of 1 to 1"):
        RankWriter(path, 2, uuid=writer.uuid)


def test_steps_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    run = Run(ranks=2)
    _, other = start(tmp_path / "run.zarr")
    with pytest.raises(ValueError, match="rank 1, step 1: expected step 0"):
        play(run, other, 1, 2)
    first = run.played[0]
    with pytest.raises(ValueError, match=r"expected step 0 and fingerprints of shape \(3, 5\), got \(2, 5\)"):
        other.step(Record(first.step, [], first.fingerprints[0][:2], (), (), (), 0.0))
    other.close()
    with pytest.raises(ValueError, match="is closed"):
        play(run, other, 0, 1)


def test_what_is_being_said_just_now_is_not_believed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    said = Progress(3, 40, (8, "ab"), "failed", "é", {"fingerprints/1/c/0/0": "cd"})
    assert read_progress(store, 1) is None
    store.write(progress_file(1), said.to_bytes())
    assert read_progress(store, 1) == said
    store.write(progress_file(1), said.to_bytes()[:-1])
    assert read_progress(store, 1) is None


def test_a_trace_of_one_rank_says_nothing_of_ranks(tmp_path: Path) -> None:
    Run().record(tmp_path / "run.zarr")
    attributes = json.loads((tmp_path / "run.zarr/zarr.json").read_bytes())["attributes"]
    assert not {"cut", "partial", "flushed"} & set(attributes)
    assert attributes["ranks"] == 1

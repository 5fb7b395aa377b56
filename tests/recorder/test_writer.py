"""However a recorder ends, what it leaves can be read, and only what was recorded shows in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detrec.engines.base import Event, EventKind, Kind, Sample, Slice, Step
from detrec.errors import TraceError, TraceIncomplete
from detrec.recorder import column
from detrec.recorder.columns import Columns
from detrec.recorder.reader import TraceReader
from detrec.recorder.schema import growing_arrays
from detrec.recorder.steps import Record
from detrec.recorder.store import LocalStore
from detrec.recorder.verify import verify
from detrec.recorder.writer import TraceWriter
from tests.recorder.endings import CtrlC
from tests.recorder.held import assert_holds, content
from tests.recorder.runs import OPS, REQUESTS, Run, files_of, open_writer, write_step


def test_commits_and_threads_cannot_be_seen_in_the_final_bytes(
    tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(ranks=2).record(tmp_path / "one.zarr", commit_steps=1)
    Run(ranks=2).record(tmp_path / "two.zarr", commit_steps=1000, commit_seconds=1e9)
    assert content(tmp_path / "one.zarr") == content(tmp_path / "two.zarr")
    monkeypatch.setattr(column, "WORTH", 1)
    Run(ranks=2).record(tmp_path / "three.zarr", commit_steps=3)
    assert content(tmp_path / "one.zarr") == content(tmp_path / "three.zarr")
    Run(ranks=2, seed=1).record(tmp_path / "other.zarr", commit_steps=1)
    assert content(tmp_path / "one.zarr") != content(tmp_path / "other.zarr")


@pytest.mark.parametrize(("step", "commit", "commits"), [(0.1, 0.0, 12), (0.5, 0.5, 2)])
def test_time_asks_for_commits_and_a_slow_store_for_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float, commit: float, commits: int
) -> None:
    # every 0.2 s; after a commit of 0.5 s the next is 9.5 s away
    run, clock, counted = Run(length=25), [0.0], 0
    monkeypatch.setattr("detrec.recorder.pace.time.monotonic", lambda: clock[0])
    original = LocalStore.patch

    def patch(self: LocalStore, key: str, *args: object) -> None:
        nonlocal counted
        if key == "tail":
            counted, clock[0] = counted + 1, clock[0] + commit
        original(self, key, *args)

    monkeypatch.setattr(LocalStore, "patch", patch)
    with open_writer(tmp_path / "run.zarr", commit_seconds=0.2) as writer:
        for played in run.played:
            clock[0] += step
            write_step(writer, played)
    assert counted == commits


def test_a_closed_trace_keeps_nothing_of_how_it_was_written(tmp_path: Path) -> None:
    Run().record(tmp_path / "run.zarr", commit_steps=2)
    assert [path.name for path in tmp_path.iterdir()] == ["run.zarr"]
    assert not [key for key, _ in files_of(tmp_path / "run.zarr") if "tail" in key or "partial" in key]


def test_a_chunk_that_is_not_full_ends_in_zeros(tmp_path: Path, small_chunks: None) -> None:
    Run().record(tmp_path / "run.zarr")
    specs, counts = growing_arrays(len(OPS), 1), TraceReader(tmp_path / "run.zarr").counts
    partial = {path: spec for path, spec in specs.items() if counts[spec.count] % spec.chunk}
    assert {"rows/token", "fingerprints/0", "steps/seconds"} <= set(partial)
    for path, spec in partial.items():
        rows = counts[spec.count]
        chunk = spec.decode((tmp_path / "run.zarr" / spec.key(rows // spec.chunk)).read_bytes())
        assert not chunk[rows % spec.chunk :].any(), path


def test_an_exception_leaves_a_failed_trace_that_can_be_read(tmp_path: Path, small_chunks: None) -> None:
    run = Run()

    def interrupted() -> None:
        with open_writer(tmp_path / "run.zarr", commit_steps=4) as writer:
            for played in run.played[:10]:
                write_step(writer, played)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    reader = TraceReader(tmp_path / "run.zarr")
    assert (reader.status, reader.reason) == ("failed", "KeyboardInterrupt")
    assert_holds(reader, run, 10)
    assert verify(tmp_path / "run.zarr").status == "failed"
    with pytest.raises(TraceIncomplete, match="KeyboardInterrupt"):
        reader.require_complete()


@pytest.mark.parametrize("at", range(1, 190, 11))
def test_ctrl_c_inside_a_commit_leaves_every_step_that_was_given(
    tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    run, ctrl_c = Run(), CtrlC(monkeypatch)
    writer = open_writer(tmp_path / "run.zarr", commit_steps=10)
    ctrl_c.after(at)
    with pytest.raises(KeyboardInterrupt), writer:
        run.write(writer)
    reader = TraceReader(tmp_path / "run.zarr")
    assert reader.status == "failed"
    assert reader.n_steps > 0
    assert_holds(reader, run, reader.n_steps)
    verify(tmp_path / "run.zarr")


def test_a_full_disk_is_said_and_leaves_the_last_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    def filling_up() -> None:
        with open_writer(tmp_path / "run.zarr", commit_steps=5) as writer:
            for played in run.played[:5]:
                write_step(writer, played)
            monkeypatch.setattr("detrec.recorder.store._write_all", full)
            for played in run.played[5:]:
                write_step(writer, played)

    with pytest.raises(TraceError, match="No space left on device") as raised:
        filling_up()
    monkeypatch.undo()
    assert "what was committed before can be read" in raised.value.__notes__[0]
    reader = TraceReader(tmp_path / "run.zarr")
    assert reader.status == "recording"
    assert_holds(reader, run, 5)
    verify(tmp_path / "run.zarr")


def test_a_trace_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    Run().record(tmp_path / "run.zarr")
    with pytest.raises(TraceError, match="exists already") as raised:
        open_writer(tmp_path / "run.zarr")
    assert "--overwrite" in raised.value.hint
    Run(length=3).record(tmp_path / "run.zarr", overwrite=True)
    assert TraceReader(tmp_path / "run.zarr").n_steps == 3
    assert [path.name for path in tmp_path.iterdir()] == ["run.zarr"]


def test_what_is_not_a_trace_is_never_overwritten(tmp_path: Path) -> None:
    folder, file, group = tmp_path / "folder", tmp_path / "file", tmp_path / "group"
    folder.mkdir()
    (folder / "thesis.txt").write_text("dear")
    file.write_text("dear")
    group.mkdir()
    (group / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    for path in (folder, file, group):
        with pytest.raises(TraceError, match="is not a trace"):
            open_writer(path, overwrite=True)
    assert (folder / "thesis.txt").read_text() == file.read_text() == "dear"


def test_the_old_trace_stays_until_the_new_one_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(length=4).record(tmp_path / "run.zarr")
    monkeypatch.setattr(
        "detrec.recorder.store._write_all", lambda *args: (_ for _ in ()).throw(OSError(28, "No space"))
    )
    with pytest.raises(TraceError, match="No space"):
        open_writer(tmp_path / "run.zarr", overwrite=True)
    monkeypatch.undo()
    assert TraceReader(tmp_path / "run.zarr").n_steps == 4
    assert [path.name for path in tmp_path.iterdir()] == ["run.zarr"]


def test_a_folder_that_is_not_there_is_an_error_not_a_guess(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="is not a directory"):
        open_writer(tmp_path / "missing" / "run.zarr")


def test_steps_that_do_not_fit_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "run.zarr")
    step = Step(0, (Slice("a", 0, 2, Kind.PREFILL, True),))
    prints, kernels = np.ones((2, len(OPS)), np.uint64), ("k",) * len(OPS)
    stranger = Sample("x", 1, 0, 0, 0.0, 0.0, 0, 0)
    finish = Event(EventKind.FINISHED, "a", 1)
    bad = [
        (step, [1], prints, kernels, (), ()),
        (step, [1, 2], prints[:1], kernels, (), ()),
        (step, [1, 2], prints[:, :1], kernels, (), ()),
        (step, [1, 2], prints, kernels[1:], (), ()),
        (step, [1, 2], prints, kernels, (stranger,), ()),
        (Step(1, step.slices), [1, 2], prints, kernels, (), ()),
        (Step(0, step.slices, (finish,)), [1, 2], prints, kernels, (), ()),
        (step, [1, 2], prints, kernels, (), (Event(EventKind.HIT, "a", 1),)),
    ]
    for arguments in bad:
        with pytest.raises(ValueError, match="step "):
            writer.step(Record(*arguments, 0.0))
    writer.step(Record(step, [1, 2], prints, kernels, (), (finish,), 0.0))
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.step(Record(Step(1, step.slices), [1, 2], prints, kernels, (), (), 0.0))
    assert TraceReader(tmp_path / "run.zarr").n_steps == 1


def test_a_manifest_that_is_not_json_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        TraceWriter(tmp_path / "run.zarr", manifest={"x": float("nan")}, requests=REQUESTS, ops=OPS)
    assert list(tmp_path.iterdir()) == []


def test_what_is_recorded_is_copied(tmp_path: Path) -> None:
    run = Run()
    with open_writer(tmp_path / "run.zarr") as writer:
        for played in run.played:
            shared, tokens = played.fingerprints[0].copy(), np.array(played.tokens)
            writer.step(replace(played.record(), fingerprints=shared, tokens=tokens))
            shared[:] = 0
            tokens[:] = 0
    assert_holds(TraceReader(tmp_path / "run.zarr"), run, 25)


def test_columns_can_be_put_twice(tmp_path: Path, small_chunks: None) -> None:
    specs = growing_arrays(2, 1)
    store = LocalStore(tmp_path)
    once, twice = Columns(specs.values(), store), Columns(specs.values(), store)
    values = np.arange(44, dtype=np.uint64).reshape(22, 2)
    once.by_path["fingerprints/0"].put(0, values)
    for start, stop in ((0, 5), (0, 20), (5, 22), (18, 22)):
        twice.by_path["fingerprints/0"].put(start, values[start:stop])
    assert once.tails() == twice.tails()
    assert once.digests() == twice.digests()
    assert len(once.digests()) == 1

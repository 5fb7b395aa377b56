"""One recorder at a time, in a place that is its own: nobody's trace is lost to another recording."""

import os
import shutil
from pathlib import Path

import pytest

from detrec.errors import TraceError
from detrec.recorder.reader import TraceReader
from detrec.recorder.store import open_store
from detrec.recorder.verify import verify
from detrec.recorder.writer import TraceWriter
from tests.recorder.runs import Run, open_writer


def test_a_trace_that_is_being_recorded_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with open_writer(path) as writer:
        for again in (TraceWriter.check_free, open_writer):
            with pytest.raises(TraceError, match="another detrec is recording there"):
                again(path, overwrite=True)
        Run().write(writer)
    assert TraceReader(path).uuid == writer.uuid
    assert verify(path).status == "complete"
    open_writer(path, overwrite=True).close()
    assert TraceReader(path).uuid != writer.uuid


@pytest.mark.parametrize("how", ["failed", "was forgotten"])
def test_a_recorder_that_ended_hinders_nobody(tmp_path: Path, how: str) -> None:
    path = tmp_path / "run.zarr"
    writer = open_writer(path)
    if how == "failed":
        writer.fail("stumbled")
    else:
        del writer
    open_writer(path, overwrite=True).close()


def test_of_two_that_come_at_once_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.zarr"
    # both looked before either was there
    monkeypatch.setattr(TraceWriter, "check_free", staticmethod(lambda path, overwrite: None))
    with open_writer(path) as first:
        for overwrite, said in ((False, "exists already"), (True, "recording there just now")):
            with pytest.raises(TraceError, match=said):
                open_writer(path, overwrite=overwrite)
        Run().write(first)
    assert [each.name for each in tmp_path.iterdir()] == ["run.zarr"]
    verify(path)


@pytest.mark.parametrize("then", ["nothing", "another trace"])
def test_a_trace_that_is_deleted_meanwhile_is_not_written_to(tmp_path: Path, then: str) -> None:
    path = tmp_path / "run.zarr"
    writer = open_writer(path)
    shutil.rmtree(path)
    if then == "another trace":
        Run().record(path)
    with pytest.raises(TraceError, match="was moved, deleted or replaced"), writer:
        Run().write(writer)
    assert path.exists() is (then == "another trace")
    if path.exists():
        assert verify(path).status == "complete"


def test_no_trace_lies_in_another(tmp_path: Path) -> None:
    outer = tmp_path / "run.zarr"
    Run().record(outer)
    for inner in (outer / "inner.zarr", outer / "steps" / "inner.zarr", f"file://{outer}/inner.zarr"):
        with pytest.raises(TraceError, match=f"lies in {outer}, a trace"):
            TraceWriter.check_free(inner)
    verify(outer)


def test_a_place_that_cannot_have_a_trace_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for parent in ("none", "file"):
        with pytest.raises(TraceError, match=f"{parent} is not a directory"):
            TraceWriter.check_free(tmp_path / parent / "run.zarr")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_refused_before_any_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(TraceError, match="cannot be written: Permission denied"):
        TraceWriter.check_free(tmp_path / "run.zarr")


def test_a_place_has_many_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.zarr"
    Run().record(path)
    (tmp_path / "link").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    names = [path, "run.zarr", "./link/", f"file://{path}"]
    assert len({open_store(name).place for name in names}) == 1
    assert open_store(tmp_path).place != open_store(path).place
    assert open_store("memory://a/run.zarr").place == open_store("memory:///a/run.zarr/").place


@pytest.mark.parametrize("path", ["a\0b", "\ud800"])
def test_a_path_that_no_file_has_is_refused(path: str) -> None:
    with pytest.raises(TraceError, match="no path that can be had"):
        open_store(path)

"""No byte of a trace can change without being found."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from detrec.errors import TraceCorrupt, TraceError
from detrec.recorder.reader import TraceReader
from detrec.recorder.schema import growing_arrays, tail_layout
from detrec.recorder.verify import examine, verify
from tests.recorder.endings import forker
from tests.recorder.held import URL, assert_holds
from tests.recorder.runs import OPS, Run, files_of, open_writer, write_step


def flip(file: Path, at: int, bit: int = 1) -> None:
    """Flip a bit of one byte, in place."""
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ bit]))


def test_a_sound_trace_passes(tmp_path: Path, small_chunks: None) -> None:
    Run().record(tmp_path / "run.zarr")
    found = verify(tmp_path / "run.zarr")
    rows = TraceReader(tmp_path / "run.zarr").n_rows
    assert (found.status, found.steps, found.rows, found.problems) == ("complete", 25, rows, ())
    assert found.files == len(list(files_of(tmp_path / "run.zarr")))


def test_sketches_of_a_trace_that_was_never_closed_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    writer = open_writer(path, sketch_parts=4)
    for played in Run(length=5).played:
        write_step(writer, played, sketches=np.ones((played.step.rows, len(OPS), 4), np.float32))
    writer.commit()
    assert examine(path).problems == ()
    flip(path / "sketches/0/c/0/0", 3)
    assert "sketches/0/c/0/0" in examine(path).problems[0]


def test_a_sound_trace_behind_a_url_passes() -> None:
    Run().record(URL, overwrite=True)
    assert verify(URL).steps == 25


def test_a_flipped_bit_in_any_file_is_found(tmp_path: Path, small_chunks: None) -> None:
    path = tmp_path / "run.zarr"
    Run(length=9).record(path)
    for key, data in files_of(path):
        positions = {0, len(data) // 3, len(data) - 1}
        for at in sorted(positions):
            flip(path / key, at)
            with pytest.raises(TraceCorrupt, match=key.replace(".", r"\.")):
                verify(path)
            flip(path / key, at)
    verify(path)


def test_a_change_of_any_byte_of_the_root_is_found(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    Run().record(path)
    root = path / "zarr.json"
    data = root.read_bytes()
    for at in range(len(data)):
        # 1: another letter or digit. 128: not UTF-8. 32: a space is gone, a letter changes case.
        bit = (1, 32, 128)[at % 3]
        flip(root, at, bit)
        with pytest.raises(TraceCorrupt, match=r"zarr\.json"):
            verify(path)
        flip(root, at, bit)
    root.write_bytes(data.replace(b"{", b"{ ", 1))
    with pytest.raises(TraceCorrupt):
        verify(path)
    for cut in (0, 1, 100, len(data) - 1):
        root.write_bytes(data[:cut])
        with pytest.raises(TraceError):
            verify(path)


def test_a_deleted_file_is_found(tmp_path: Path, small_chunks: None) -> None:
    path = tmp_path / "run.zarr"
    Run(length=9).record(path)
    for key, _ in list(files_of(path)):
        if key != "zarr.json":
            (path / key).rename(tmp_path / "aside")
            with pytest.raises(TraceCorrupt, match=f"{key}: is missing"):
                verify(path)
            (tmp_path / "aside").rename(path / key)


def test_a_file_that_was_not_recorded_is_found(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    Run().record(path)
    for key in ("rows/step/c/1", "notes.txt", "tail", "rows/step/zarr.json.partial"):
        (path / key).write_bytes(b"x")
        with pytest.raises(TraceCorrupt, match=f"{key}: is not part of the trace"):
            verify(path)
        (path / key).unlink()


def test_every_problem_is_listed_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    Run().record(path)
    flip(path / "rows/step/c/0", 0)
    (path / "rows/token/c/0").unlink()
    assert len(examine(path).problems) == 2
    with pytest.raises(TraceCorrupt, match="and 1 more"):
        verify(path)


def test_a_trace_being_recorded_is_checked_up_to_its_commit(tmp_path: Path, small_chunks: None) -> None:
    path = tmp_path / "run.zarr"
    writer = open_writer(path, commit_steps=5)
    Run(length=23).write(writer)
    root = json.loads((path / "zarr.json").read_bytes())["attributes"]
    assert root["committed"]["steps"] >= 20
    verify(path)
    # the last byte of the last committed row, of an array whose chunk is not full
    rows, last = root["committed"]["rows"], root["committed"]["rows"] // 16
    for key, at in (
        ("rows/token/c/0", 5),
        ("rows/token/zarr.json", 5),
        ("requests/prompt/c/0", 5),
        ("fingerprints/0/c/0/0", 5),
        (f"fingerprints/0/c/{last}/0", rows % 16 * 40 - 1),
    ):
        flip(path / key, at)
        with pytest.raises(TraceCorrupt, match=key):
            verify(path)
        flip(path / key, at)
    specs = growing_arrays(5, 1)
    offsets, size = tail_layout(specs.values())
    assert (path / "tail").stat().st_size == size
    for key, offset in offsets.items():
        committed = root["tails"][key][0] * specs[key].row_bytes
        for at in {0, committed // 2, committed - 1} if committed else ():
            flip(path / "tail", offset + at)
            with pytest.raises(TraceCorrupt, match=key):
                verify(path)
            flip(path / "tail", offset + at)
        # rows after the commit may be anything: their recorder did not say that they are there
        flip(path / "tail", offset + committed)
        verify(path)
    (path / "tail").unlink()
    with pytest.raises(TraceCorrupt, match="tail: is missing"):
        verify(path)


RECORDER = """
import os, sys
from tests.recorder.runs import Run, open_writer
run = Run(length=100)
for path in sys.stdin:
    child = os.fork()
    if not child:
        print(os.getpid(), flush=True)
        while True:
            with open_writer(path.strip(), overwrite=True, commit_steps=3) as writer:
                run.write(writer)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def test_a_recorder_killed_at_any_moment_leaves_a_sound_trace_or_none(tmp_path: Path) -> None:
    path, run, moments = tmp_path / "run.zarr", Run(length=100), random.Random(7)
    statuses = []
    with forker(RECORDER) as recorder:
        for _ in range(20):
            shutil.rmtree(path, ignore_errors=True)
            (process,) = recorder.fork(str(path))
            time.sleep(moments.uniform(0, 0.25))
            os.kill(process, signal.SIGKILL)
            recorder.wait()
            if path.exists():
                reader = TraceReader(path)
                statuses.append((reader.status, reader.n_steps))
                assert_holds(reader, run, reader.n_steps)
                verify(path)
    assert {status for status, _ in statuses} <= {"recording", "complete"}
    # they were killed in the middle, not all at the ends
    assert any(status == "recording" and 0 < steps < 100 for status, steps in statuses)

"""Ctrl-C may come wherever Python looks for it: when a function begins, and when one of C's has returned."""

import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pytest

from detrec.errors import TraceError
from detrec.recorder import column
from detrec.recorder.reader import TraceReader
from detrec.recorder.store import LocalStore
from detrec.recorder.verify import verify
from tests.recorder.held import assert_holds
from tests.recorder.runs import Run, open_writer, write_step

RECORDER = str(Path(column.__file__).parent)
MOMENTS = 16


@pytest.fixture(params=["at once", "by threads"])
def finishing(request: pytest.FixtureRequest, small_chunks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full chunks are finished so: of those that threads have, one may wait."""
    if request.param == "by threads":
        monkeypatch.setattr(column, "WORTH", 1)
        monkeypatch.setattr(column, "AHEAD", 1)


def interrupted(path: Path, run: Run, moment: int) -> tuple[int, int]:
    """How many steps were taken and moments passed by; Ctrl-C comes at `moment`, if there is one."""
    seen = taken = 0

    def ctrl_c(frame: FrameType, event: str, arg: object) -> None:
        nonlocal seen
        code = frame.f_code
        if event not in ("call", "c_return") or not code.co_filename.startswith(RECORDER):
            return
        # what comes before it has done anything ends like kill -9
        if code.co_name == "__exit__":
            return
        seen += 1
        if seen == moment:
            sys.setprofile(None)
            raise KeyboardInterrupt

    before = sys.getprofile()
    # commits come by steps, so that moments are the same however quick the machine is
    writer = open_writer(path, commit_steps=4, commit_seconds=1e9)
    try:
        with writer:
            sys.setprofile(ctrl_c)
            try:
                for played in run.played:
                    write_step(writer, played)
                    taken += 1
            except KeyboardInterrupt:
                # a probe may have steps that are over and not written yet
                if taken + 1 < run.length:
                    with suppress(ValueError):
                        write_step(writer, run.played[taken + 1])
                        taken += 2
                raise
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(before)
    return taken, seen


def test_every_step_that_was_taken_is_kept(tmp_path: Path, finishing: None) -> None:
    run = Run(length=12)
    _, moments = interrupted(tmp_path / "whole.zarr", run, 0)
    assert moments > 1000
    lengths = set()
    for moment in range(1, moments, moments // MOMENTS):
        path = tmp_path / f"{moment}.zarr"
        taken, _ = interrupted(path, run, moment)
        reader = TraceReader(path)
        assert reader.status == "failed", moment
        assert taken <= reader.n_steps <= taken + 1, moment
        assert_holds(reader, run, reader.n_steps)
        verify(path)
        lengths.add(reader.n_steps)
    assert min(lengths) <= 1
    assert max(lengths) == 12


def test_what_a_thread_cannot_write_is_said_and_leaves_the_last_commit(
    tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, patch = Run(length=25), LocalStore.patch

    def full(self: LocalStore, key: str, *args: object) -> None:
        if key == "fingerprints/0/c/1/0" and threading.current_thread() is not threading.main_thread():
            raise TraceError("No space left on device")
        patch(self, key, *args)

    monkeypatch.setattr(column, "WORTH", 1)
    monkeypatch.setattr(LocalStore, "patch", full)

    def filling_up() -> None:
        with open_writer(tmp_path / "run.zarr", commit_steps=2) as writer:
            run.write(writer)

    with pytest.raises(TraceError, match="No space left on device") as raised:
        filling_up()
    assert "what was committed before can be read" in raised.value.__notes__[0]
    reader = TraceReader(tmp_path / "run.zarr")
    assert reader.status == "recording"
    assert_holds(reader, run, reader.n_steps)
    verify(tmp_path / "run.zarr")

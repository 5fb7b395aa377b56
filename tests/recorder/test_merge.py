"""Traces of ranks as one: byte for byte what one recorder of all ranks had written."""

from dataclasses import replace

import pytest

from detrec.errors import TraceError
from detrec.recorder.merge import merge
from detrec.recorder.reader import TraceReader
from detrec.recorder.verify import verify
from detrec.recorder.writer import TraceWriter
from tests.recorder.runs import KINDS, MANIFEST, Run, files_of, open_writer, write_step


def split(run, folder, lengths=None):
    """A trace of each rank of `run`, its own fingerprints only; `lengths` None closes them whole."""
    paths = []
    for rank in range(run.ranks):
        path = folder / f"rank{rank}.zarr"
        with open_writer(path) as writer:
            for played in run.played[: lengths[rank] if lengths else None]:
                write_step(writer, replace(played, fingerprints=[played.fingerprints[rank]]))
        paths.append(path)
    return paths


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("ranks", [1, 3])
def test_it_is_what_one_recorder_of_all_ranks_had_written(tmp_path, ranks):
    run = Run(ranks=ranks)
    run.record(tmp_path / "whole.zarr")
    merge(split(run, tmp_path), tmp_path / "merged.zarr", MANIFEST, kinds=KINDS)
    whole, merged = (dict(files_of(tmp_path / name)) for name in ("whole.zarr", "merged.zarr"))
    # the root has the trace's own uuid, and with it another digest
    del whole["zarr.json"], merged["zarr.json"]
    assert merged == whole
    assert verify(tmp_path / "merged.zarr").status == "complete"


def test_what_not_all_ranks_have_is_left_out_and_the_trace_says_so(tmp_path):
    merged = merge(split(Run(ranks=2), tmp_path, lengths=(9, 7)), tmp_path / "merged.zarr", MANIFEST)
    assert (merged.n_steps, merged.status) == (7, "failed")
    assert merged.reason == "the ranks' recorders stopped at steps [9, 7]"


def test_a_rank_that_failed_fails_the_whole(tmp_path):
    paths = split(Run(), tmp_path)
    with open_writer(tmp_path / "broken.zarr") as writer:
        writer.fail("out of memory")
    merged = merge([*paths, tmp_path / "broken.zarr"], tmp_path / "merged.zarr", MANIFEST)
    assert (merged.status, merged.reason, merged.n_steps) == ("failed", "out of memory", 0)


def test_ranks_that_ran_different_steps_are_told_apart(tmp_path):
    run = Run(ranks=2)
    paths = split(run, tmp_path)
    step = run.played[4].step
    moved = replace(step, slices=(replace(step.slices[0], first_block=99), *step.slices[1:]))
    run.played[4] = replace(run.played[4], step=moved)
    other = split(run, (tmp_path / "other").mkdir() or tmp_path / "other")
    with pytest.raises(TraceError, match=r"step 4: rank 1 ran a\[6, 7\), b\[1, 2\), rank 0 a"):
        merge([paths[0], other[1]], tmp_path / "merged.zarr", MANIFEST)


def test_ranks_of_two_runs_do_not_merge(tmp_path):
    paths = split(Run(), tmp_path)
    with TraceWriter(tmp_path / "other.zarr", manifest={}, requests=(), ops=("x",)):
        pass
    with pytest.raises(TraceError, match="rank 1 recorded other ops or requests than rank 0"):
        merge([*paths, tmp_path / "other.zarr"], tmp_path / "merged.zarr", MANIFEST)


def test_what_is_attached_is_kept_and_checked(tmp_path):
    path = tmp_path / "run.zarr"
    with open_writer(path) as writer:
        writer.attach("note", b"a word")
    assert TraceReader(path).attached("note") == b"a word"
    assert TraceReader(path).attached("other") is None
    (path / "attached" / "note").write_bytes(b"a worm")
    with pytest.raises(TraceError, match="attached/note: its bytes are not those that were recorded"):
        verify(path)

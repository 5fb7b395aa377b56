"""Sketches come out of a trace as they went in, where it has any."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from detrec.recorder.reader import TraceReader
from detrec.recorder.verify import examine
from tests.bits import assert_same_bits
from tests.recorder.runs import OPS, Run, open_writer, write_step


def test_sketches_come_back_as_they_were_given(tmp_path: Path, small_chunks: None) -> None:
    run = Run(length=12)
    path = tmp_path / "run.zarr"
    given = []
    with open_writer(path, sketch_parts=4) as writer:
        for index, played in enumerate(run.played):
            shape = (len(played.tokens), len(OPS), 4)
            given.append(np.random.default_rng(index).standard_normal(shape).astype(np.float32))
            write_step(writer, played, sketches=given[-1])
    reader = TraceReader(path)
    assert reader.has_sketches
    assert_same_bits(reader.sketches(0, reader.n_rows), np.concatenate(given))
    assert_same_bits(reader.sketches(5, 23), np.concatenate(given)[5:23])
    assert examine(path).problems == ()
    assert zarr.open_group(path, mode="r")["sketches/0"].shape == (reader.n_rows, 4 * len(OPS))


def test_a_trace_has_no_sketches_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    Run(length=3).record(path)
    reader = TraceReader(path)
    assert not reader.has_sketches
    assert not (path / "sketches").exists()
    with pytest.raises(ValueError, match="no sketches"):
        reader.sketches(0, 1)


def test_sketches_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    played = Run(length=1).played[0]
    with open_writer(tmp_path / "run.zarr", sketch_parts=4) as writer:
        for wrong in (None, np.zeros((1, 1, 4), np.float32)):
            with pytest.raises(ValueError, match="expected sketches of shape"):
                write_step(writer, played, sketches=wrong)

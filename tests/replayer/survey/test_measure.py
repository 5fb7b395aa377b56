"""What there is to measure, and of which engine."""

from pathlib import Path

import pytest

from detrec.replayer.survey.measure import measure
from detrec.replayer.survey.survey import Survey
from tests.replayer.survey.traces import MANIFEST, written

CHANGES = [("r1", 3, "0.attn")]


def test_a_cell_of_an_engine_that_cannot_be_looked_into_is_refused_by_its_name(tmp_path: Path):
    engine = {**MANIFEST["config"]["engine"], "name": "toy"}
    manifest = {**MANIFEST, "config": {**MANIFEST["config"], "engine": engine}}
    other = written(tmp_path / "b.zarr", changes=CHANGES, manifest=manifest)
    survey = Survey(written(tmp_path / "a.zarr"), other)
    survey.compare()
    first = survey.first()
    assert first is not None
    with pytest.raises(ValueError, match=r"only the built-in engine can be run again .*, not toy"):
        measure(survey, first.cell, str(tmp_path / "kept"))

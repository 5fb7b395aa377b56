"""Runs on other numbers of ranks: sums stand beside sums, and summands beside nothing."""

from pathlib import Path

import pytest

from detrec.replayer.survey.cell import State
from detrec.replayer.survey.grid import Window, lines_of
from detrec.replayer.survey.maps import _of_rows
from detrec.replayer.survey.survey import Survey
from detrec.story.facts import facts
from tests.replayer.parallel import STEPS, parallel_trace
from tests.replayer.survey.traces import stored


@pytest.mark.parametrize(("ours", "theirs"), [(1, 2), (2, 1), (2, 4)])
def test_a_share_of_one_rank_shows_in_the_sum_of_all(tmp_path: Path, ours: int, theirs: int):
    other = parallel_trace(theirs)
    other.change("r1", 4, "0.attn", rank=theirs - 1)
    survey = Survey(
        stored(tmp_path / "a.zarr", parallel_trace(ours), STEPS), stored(tmp_path / "b.zarr", other, STEPS)
    )
    found = survey.compare()
    assert found.first.rank is None
    assert "0.o_partial" not in survey.runs.ops
    row = survey.row(survey.goto("r1:4"))
    states = {op.name: op.state for op in row.ops}
    assert states.pop("0.attn") is State.BORN
    assert set(states.values()) - {State.ABSENT} == {State.EQUAL}
    attention = row.ops[survey.runs.ops.index("0.attn")]
    assert (attention.recorded, attention.replayed) == (found.first.recorded, found.first.replayed)
    for rank in (None, 0, max(ours, theirs) - 1):
        window = Window(0, 3, 3, layer=-1, rank=rank)
        grid = survey.grid(window)
        assert (grid.states == _of_rows(survey.runs, window, grid.edges, lines_of(survey.runs.ops, -1))).all()
    assert "not comparable" in facts(survey)["ranks_say"][0]


def test_a_rank_that_disagrees_with_its_own_run_is_told(tmp_path: Path):
    other = parallel_trace(2)
    other.change("r0", 5, "0.o_proj", rank=1)
    survey = Survey(
        stored(tmp_path / "a.zarr", parallel_trace(2), STEPS), stored(tmp_path / "b.zarr", other, STEPS)
    )
    survey.compare()
    op = survey.row(survey.goto("r0:5 0.o_proj")).ops[4]
    assert (op.name, op.state, op.rank) == ("0.o_proj", State.BORN, 1)
    assert op.ranks == (State.EQUAL, State.BORN)
    assert "ranks disagree first at step 2" in facts(survey)["ranks_say"][0]

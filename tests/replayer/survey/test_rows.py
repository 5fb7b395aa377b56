"""One row op by op, one op row by row."""

from pathlib import Path

from detrec.engines.base import Event, EventKind
from detrec.replayer.survey.cell import State
from detrec.replayer.survey.survey import Survey
from tests.replayer.fakes import OPS, part, place
from tests.replayer.survey.traces import STEPS, written


def test_every_op_of_a_row_in_causal_order(tmp_path: Path):
    kernels = ("kernel",) * 5 + ("split_k",) + ("kernel",) * 3
    other = written(
        tmp_path / "b.zarr",
        changes=[("r0", 7, "1.attn"), ("r0", 7, "1.output")],
        blank=[("r0", 7, "0.output")],
        kernels=lambda index: kernels,
    )
    survey = Survey(written(tmp_path / "a.zarr"), other)
    survey.compare()
    row = survey.row(survey.goto("r0:7"))
    assert [op.name for op in row.ops] == list(OPS)
    assert [op.state for op in row.ops] == [
        *(State.EQUAL, State.EQUAL, State.EQUAL, State.MISSING, State.EQUAL, State.BORN, State.INHERITED),
        *(State.EQUAL, State.EQUAL),
    ]
    born = row.ops[5]
    assert (born.recorded, born.replayed) == (place(0, 7, 5, 0), place(0, 7, 5, 0) + (1 << 32))
    assert (born.recorded_kernel, born.replayed_kernel) == ("kernel", "split_k")
    assert (row.ops[3].recorded, row.ops[3].replayed) == (place(0, 7, 3, 0), 0)
    assert (row.recorded.step, row.recorded.token, row.recorded.draw.token) == (2, 8, 9)


def test_of_ranks_the_worst_is_shown_and_all_are_told(tmp_path: Path):
    recorded = written(tmp_path / "a.zarr", ranks=3)
    survey = Survey(recorded, written(tmp_path / "b.zarr", ranks=3, changes=[("r0", 7, "1.attn", 1)]))
    survey.compare()
    op = survey.row(survey.goto("r0:7")).ops[5]
    assert (op.state, op.rank) == (State.BORN, 1)
    assert op.ranks == (State.EQUAL, State.BORN, State.EQUAL)
    assert op.recorded == place(0, 7, 5, 1)
    op = survey.row(survey.goto("r0:7"), rank=2).ops[5]
    assert (op.state, op.rank, op.recorded) == (State.EQUAL, 2, place(0, 7, 5, 2))


def test_a_row_of_one_run_only(tmp_path: Path):
    survey = Survey(written(tmp_path / "a.zarr"), written(tmp_path / "b.zarr", STEPS[:3]))
    survey.compare()
    row = survey.row(survey.goto("r0:8"))
    assert row.replayed is None
    assert {op.state for op in row.ops} == {State.MISSING}
    assert all(op.recorded and not op.replayed for op in row.ops)


def test_a_row_that_was_computed_again_can_be_looked_at(tmp_path: Path):
    again = ([part("r0", 0, 9)], [Event(EventKind.PREEMPTED, "r0", 9)])
    survey = Survey(written(tmp_path / "a.zarr", [*STEPS, again]))
    assert survey.row(survey.goto("r0:6")).recorded.step == 4
    assert survey.row(survey.goto("step 1 r0:6")).recorded.step == 1


def test_one_op_of_the_rows_of_a_step_in_the_order_of_the_batch(tmp_path: Path):
    survey = Survey(written(tmp_path / "a.zarr"), written(tmp_path / "b.zarr", changes=[("r2", 3, "0.attn")]))
    survey.compare()
    rows = survey.rows_of_op(1, OPS.index("0.attn"))
    assert [(row.cell.request, row.cell.position) for row in rows] == [
        *(("r0", 6), ("r1", 3), ("r2", 0), ("r2", 1), ("r2", 2), ("r2", 3), ("r2", 4)),
    ]
    assert [row.state for row in rows] == [State.EQUAL] * 5 + [State.BORN, State.EQUAL]
    # r2 does not sample in that step
    assert [row.cell.request for row in survey.rows_of_op(1, OPS.index("logits"))] == ["r0", "r1"]

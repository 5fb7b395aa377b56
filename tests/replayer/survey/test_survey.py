"""What can be opened, what is said of what cannot, and walking from one divergence to the next."""

import threading
from pathlib import Path

import pytest

from detrec.recorder.reader import TraceReader
from detrec.recorder.writer import TraceWriter
from detrec.replayer.compare import compare
from detrec.replayer.survey.cell import State
from detrec.replayer.survey.command import Replayed
from detrec.replayer.survey.grid import Window
from detrec.replayer.survey.survey import Survey
from tests.replayer.fakes import OPS, fake_trace
from tests.replayer.survey.traces import STEPS, step, writer_of, written

CHANGES = [("r1", 3, "0.attn"), ("r1", 4, "1.attn"), ("r0", 7, "1.qkv"), ("r0", 8, "1.output")]


@pytest.fixture
def survey(tmp_path: Path) -> Survey:
    """Two rows of r1 and two of r0 diverge; the second of each request inherits."""
    found = Survey(written(tmp_path / "a.zarr"), written(tmp_path / "b.zarr", changes=CHANGES))
    found.compare()
    return found


def places(survey: Survey, born_only: bool) -> list[tuple[str, int, str]]:
    found, at = [], survey.first()
    while at is not None:
        assert survey.runs is not None
        found.append((at.cell.request, at.cell.position, survey.runs.ops[at.cell.op]))
        at = survey.next(at.cell, born_only=born_only)
    return found


def test_divergences_are_walked_in_causal_order(survey: Survey):
    assert places(survey, born_only=True) == [("r1", 3, "0.attn"), ("r0", 7, "1.qkv")]
    assert places(survey, born_only=False) == [
        ("r1", 3, "0.attn"),
        ("r0", 7, "1.qkv"),
        ("r1", 4, "1.attn"),
        ("r0", 8, "1.output"),
    ]


def test_back_from_any_place_leads_the_way_that_was_come(survey: Survey):
    last = survey.goto("r0:8 sampled")
    back = survey.previous(last, born_only=False)
    assert back is not None
    assert (back.cell.request, back.cell.position, back.born) == ("r0", 8, False)
    assert survey.previous(last).cell.position == 7
    first = survey.first()
    assert survey.previous(first.cell, born_only=False) is None
    assert survey.next(last, born_only=False) is None


def test_a_place_that_is_a_divergence_knows_its_number(survey: Survey):
    walk = survey.runs.walk
    found = walk.at(2, born_only=False)
    assert walk.index(found.cell, born_only=False) == 2
    assert walk.index(survey.goto("r0:8 embedding"), born_only=False) is None


def test_nothing_is_equal_before_the_comparison(tmp_path: Path):
    survey = Survey(written(tmp_path / "a.zarr"), written(tmp_path / "b.zarr", changes=CHANGES))
    states = survey.grid(Window(0, 4, 4)).states
    assert set(states.ravel().tolist()) <= {State.ABSENT, State.RECORDED}
    assert survey.first() is None
    survey.compare()
    assert State.BORN in survey.grid(Window(0, 4, 4)).states


def test_the_first_divergence_is_told_before_the_end(tmp_path: Path):
    a, b = written(tmp_path / "a.zarr"), written(tmp_path / "b.zarr", changes=CHANGES)
    sighted = []
    found = Survey(a, b).compare(sighted=sighted.append)
    assert sighted == [found.first]


def test_a_comparison_that_was_made_is_not_made_again(tmp_path: Path):
    a, b = written(tmp_path / "a.zarr"), written(tmp_path / "b.zarr", changes=CHANGES)
    known = compare(TraceReader(a), TraceReader(b))
    survey = Survey(a, b, comparison=known)
    assert survey.comparison is known
    assert survey.compare() is known


def test_one_run_alone_is_neither_equal_nor_diverged(tmp_path: Path):
    survey = Survey(written(tmp_path / "a.zarr"))
    assert survey.compare() is None
    assert set(survey.grid(Window(0, 4, 4)).states.ravel().tolist()) == {State.RECORDED}
    row = survey.row(survey.goto("r0:0"))
    assert {op.state for op in row.ops} == {State.RECORDED, State.ABSENT}
    assert row.replayed is None


@pytest.mark.parametrize(
    ("spoil", "status", "says"),
    [
        pytest.param(
            lambda path: path.rename(path.with_name("gone")), "unreadable", "no such trace", id="gone"
        ),
        pytest.param(
            lambda path: (path / "zarr.json").write_bytes(b"{}"), "unreadable", "not a trace", id="no trace"
        ),
        pytest.param(
            lambda path: (path / "rows/step/c/0").write_bytes(b"no"), "corrupt", "rows/step/c/0", id="rows"
        ),
        pytest.param(
            lambda path: (path / "zarr.json").write_bytes(
                b'{"attributes": {"format_version": 99, "digest": ""}}'
            ),
            "foreign",
            "trace format 99",
            id="foreign",
        ),
    ],
)
def test_a_trace_that_cannot_be_read_is_shown_as_what_it_is(tmp_path: Path, spoil, status: str, says: str):
    a, b = written(tmp_path / "a.zarr"), written(tmp_path / "b.zarr")
    spoil(tmp_path / "b.zarr")
    survey = Survey(a, b)
    good, bad = survey.conditions
    assert (good.status, bad.status, bad.readable) == ("complete", status, False)
    assert says in bad.detail
    assert survey.compare() is None
    assert survey.runs is not None, "the run that can be read is shown alone"
    assert survey.row(survey.goto("r0:0")).replayed is None
    assert not Survey(b, a).runs


def test_a_corrupt_chunk_is_shown_and_the_rest_compared(tmp_path: Path):
    a, b = written(tmp_path / "a.zarr"), written(tmp_path / "b.zarr", changes=CHANGES)
    file = tmp_path / "b.zarr/fingerprints/0/c/0/0"
    data = bytearray(file.read_bytes())
    data[8] ^= 1
    file.write_bytes(data)
    survey = Survey(a, b)
    found = survey.compare()
    assert found is not None
    assert found.verdict == "incomplete"
    assert survey.conditions[1].status == "corrupt"
    assert "fingerprints/0/c/0/0" in survey.conditions[1].detail
    for window in (Window(0, 4, 4), Window(0, 9, 9, request="r0")):
        states = set(survey.grid(window).states.ravel().tolist())
        assert states - {State.ABSENT} == {State.CORRUPT}
    assert {op.state for op in survey.row(survey.goto("r0:0")).ops} == {State.CORRUPT, State.ABSENT}


def test_a_growing_trace_is_followed_until_it_is_closed(tmp_path: Path):
    path = tmp_path / "a.zarr"
    run = fake_trace(STEPS)
    writer: TraceWriter = writer_of(path, run)
    step(writer, run, 0, STEPS[0])
    writer.commit()
    survey = Survey(str(path))
    assert survey.conditions[0].status == "recording"
    assert survey.conditions[0].steps == 1
    assert not survey.refresh()
    step(writer, run, 1, STEPS[1])
    writer.commit()
    assert survey.refresh()
    assert survey.runs.recorded.n_steps == 2
    writer.close()
    assert survey.refresh()
    assert survey.conditions[0].status == "complete"


def test_a_growing_recording_misses_nothing_that_comes_later(tmp_path: Path):
    growing = written(tmp_path / "a.zarr", STEPS[:2], close=False)
    survey = Survey(growing, written(tmp_path / "b.zarr"))
    found = survey.compare()
    assert (found.verdict, found.counts.missing) == ("identical", 0)
    assert State.MISSING not in survey.grid(Window(0, 9, 9, request="r0")).states


def test_what_was_found_of_a_trace_is_forgotten_when_it_has_grown(tmp_path: Path):
    path = tmp_path / "a.zarr"
    run = fake_trace(STEPS)
    writer = writer_of(path, run)
    for index in range(2):
        step(writer, run, index, STEPS[index])
    writer.commit()
    survey = Survey(str(path), written(tmp_path / "b.zarr", changes=CHANGES))
    survey.compare()
    assert survey.diagnosis is not None
    assert survey.comparison.counts.born == 1
    for index in range(2, 4):
        step(writer, run, index, STEPS[index])
    writer.close()
    assert survey.refresh()
    assert (survey.comparison, survey.diagnosis) == (None, None)
    assert survey.compare().counts.born == 2


def test_the_schedule_can_be_had_while_the_runs_are_compared(tmp_path: Path):
    survey = Survey(written(tmp_path / "a.zarr"), written(tmp_path / "b.zarr", changes=CHANGES))
    got = []

    def looked(what: str, done: int, total: int) -> None:
        looker = threading.Thread(target=lambda: got.append(len(survey.schedule)))
        looker.start()
        looker.join(120)

    survey.compare(looked)
    assert got
    assert set(got) == {4}


def test_a_failed_recording_says_why(tmp_path: Path):
    run = fake_trace(STEPS)
    writer = writer_of(tmp_path / "a.zarr", run)
    step(writer, run, 0, STEPS[0])
    writer.fail("OutOfMemory: no blocks")
    (found,) = Survey(str(tmp_path / "a.zarr")).conditions
    assert (found.status, found.readable) == ("failed", True)
    assert "OutOfMemory: no blocks" in found.detail


def test_the_command_that_shows_it_again(tmp_path: Path):
    a, b = written(tmp_path / "a.zarr"), written(tmp_path / "b.zarr")
    assert Survey(a).command() == f"detrec info {a}"
    assert Survey(a, b).command() == f"detrec diff {a} {b}"
    how = Replayed("tokens", ("engine.seed=7", "model=my model"), "bitflip:step=3")
    wanted = "--set engine.seed=7 --set 'model=my model' --mode tokens --fault bitflip:step=3"
    assert Survey(a, b, replayed=how).command() == f"detrec replay {a} {wanted}"


def test_kernels_that_differ_are_named_with_their_steps(tmp_path: Path):
    split = ("kernel",) * 5 + ("split_k",) + ("kernel",) * 3
    tables = {2: split, 3: split}
    other = written(tmp_path / "b.zarr", kernels=lambda index: tables.get(index, ("kernel",) * len(OPS)))
    (use,) = (use for use in Survey(written(tmp_path / "a.zarr"), other).kernels() if use.differs)
    assert (use.name, use.recorded, use.replayed, use.steps, use.first) == (
        "1.attn",
        "kernel",
        "split_k",
        2,
        2,
    )

"""Heat maps against what a reader with all the time in the world would find."""

from pathlib import Path

import numpy as np
import pytest

from detrec.engines.base import SAMPLE_OPS, Event, EventKind
from detrec.recorder import schema
from detrec.replayer.survey.cell import State
from detrec.replayer.survey.grid import Window, edges_of, lines_of
from detrec.replayer.survey.maps import _of_rows, born_columns
from detrec.replayer.survey.survey import Survey
from tests.replayer.fakes import OPS, part
from tests.replayer.survey.traces import STEPS, written

LINES = ("embedding", "0", "1", "logits", "sampled")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fingerprint chunks of eight rows, so that a short run has several."""
    monkeypatch.setattr(schema, "_MAX_CHUNK_ROWS", 8)
    monkeypatch.setattr(schema, "_MIN_CHUNK_ROWS", 8)


def survey_of(tmp_path: Path, steps=STEPS, other=None, **options) -> Survey:
    recorded = written(tmp_path / "a.zarr", steps, ranks=options.get("ranks", 1))
    survey = Survey(recorded, written(tmp_path / "b.zarr", other or steps, **options))
    survey.compare()
    return survey


def letters(states: np.ndarray) -> list[str]:
    return ["".join(" .=?!xB"[state] for state in line) for line in states.tolist()]


def test_positions_of_a_request(tmp_path: Path):
    survey = survey_of(
        tmp_path, changes=[("r0", 6, "0.attn"), ("r0", 7, "1.qkv")], blank=[("r0", 2, "1.output")]
    )
    grid = survey.grid(Window(0, 9, 20, request="r0"))
    assert grid.labels == LINES
    assert letters(grid.states) == [
        "=========",
        "======B==",
        "==?====x=",
        "     ====",
        "     ====",
    ]


def test_the_ops_of_one_layer(tmp_path: Path):
    survey = survey_of(tmp_path, changes=[("r0", 6, "0.attn"), ("r0", 7, "0.output")])
    grid = survey.grid(Window(5, 9, 20, request="r0", layer=0))
    assert grid.labels == ("0.qkv", "0.attn", "0.output")
    assert letters(grid.states) == ["====", "=B==", "==x="]
    assert [survey.runs.ops[first] for first, _ in grid.ops] == list(grid.labels)


def test_a_column_shows_the_worst_cell_behind_it(tmp_path: Path):
    survey = survey_of(tmp_path, changes=[("r0", 6, "0.attn"), ("r0", 7, "1.qkv")])
    grid = survey.grid(Window(0, 9, 3, request="r0"))
    assert grid.edges.tolist() == [0, 3, 6, 9]
    assert letters(grid.states) == ["===", "==B", "==x", " ==", " =="]


def test_rows_that_one_run_lacks_are_missing_and_not_equal(tmp_path: Path):
    shorter = [STEPS[0], STEPS[1], [part("r0", 7, 8), part("r1", 4, 5), part("r2", 5, 8)]]
    survey = survey_of(tmp_path, other=shorter)
    assert letters(survey.grid(Window(0, 9, 9, request="r0")).states)[0] == "========?"
    assert letters(survey.grid(Window(0, 4, 4)).states)[0] == "===?"


def test_what_a_prefix_cache_served_is_not_missing(tmp_path: Path):
    hit = ([*STEPS[1][:2], part("r2", 4, 5, samples=False)], [Event(EventKind.HIT, "r2", 4)])
    survey = survey_of(tmp_path, other=[STEPS[0], hit, *STEPS[2:]])
    assert letters(survey.grid(Window(0, 9, 9, request="r2")).states)[0] == "    ====="


def test_a_rank_of_its_own_and_the_worst_of_all(tmp_path: Path):
    survey = survey_of(tmp_path, ranks=2, changes=[("r0", 6, "0.attn", 1)])
    for rank, wanted in ((0, "=" * 9), (1, "======B=="), (None, "======B==")):
        assert letters(survey.grid(Window(0, 9, 9, request="r0", rank=rank)).states)[1] == wanted
    assert letters(survey.grid(Window(0, 4, 4, rank=0)).states)[1] == "===="
    assert letters(survey.grid(Window(0, 4, 4, rank=1)).states)[1] == "=B=="


def test_a_place_computed_twice_shows_the_generation_asked_for(tmp_path: Path):
    again = ([part("r0", 0, 9), part("r2", 9, 10)], [Event(EventKind.PREEMPTED, "r0", 9)])
    steps = [*STEPS, again]
    recorded = written(tmp_path / "a.zarr", steps)
    other = written(tmp_path / "b.zarr", steps, changes=[("r0", 6, "0.attn")])
    survey = Survey(recorded, other)
    survey.compare()
    # the change lies in the latest row
    for generation, wanted in ((None, "======B=="), (1, "======B=="), (0, "=========")):
        window = Window(0, 9, 9, request="r0", generation=generation)
        assert letters(survey.grid(window).states)[1] == wanted


@pytest.mark.parametrize("seed", range(6))
def test_the_map_of_steps_is_what_reading_every_row_gives(tmp_path: Path, seed: int):
    rng = np.random.default_rng(seed)
    places = [(p.request, at) for step in STEPS for p in step for at in range(p.start, p.stop)]
    names = [name for name in OPS if name not in SAMPLE_OPS]
    chosen = [places[i] for i in rng.choice(len(places), 5, replace=False)]
    changes = [(*place, names[rng.integers(len(names))]) for place in chosen[:3]]
    blank = [(*place, names[rng.integers(len(names))]) for place in chosen[3:]]
    # every other time the replay ends a step early, unless that step is one to change
    early = seed % 2 and not any(place in (("r0", 8), ("r2", 8)) for place in chosen)
    survey = survey_of(tmp_path, other=STEPS[:3] if early else STEPS, changes=changes, blank=blank)
    for columns in (1, 2, 3, 4):
        for layer in (None, -1, 1):
            window = Window(0, 4, columns, layer=layer)
            grid = survey.grid(window)
            lines = lines_of(survey.runs.ops, layer)
            assert (grid.states == _of_rows(survey.runs, window, grid.edges, lines)).all()
    assert {State.MISSING, State.EQUAL} <= set(survey.grid(Window(0, 4, 4)).states.ravel().tolist())


def test_what_is_known_to_be_equal_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    survey = survey_of(tmp_path, changes=[("r0", 8, "0.attn")])
    read = []
    take = survey.runs.recorded.take
    monkeypatch.setattr(
        survey.runs.recorded, "take", lambda rows, rank: read.extend(rows) or take(rows, rank)
    )
    survey.grid(Window(0, 4, 4))
    assert not read
    survey.grid(Window(0, 9, 9, request="r0"))
    assert [survey.runs.recorded.row_position[row] for row in read] == [8]


def test_the_columns_in_which_a_divergence_was_born(tmp_path: Path):
    changes = [("r0", 2, "0.attn"), ("r0", 8, "0.attn"), ("r1", 3, "1.attn")]
    survey = survey_of(tmp_path, changes=changes)
    assert born_columns(survey.runs, None).tolist() == [0, 1, 3]
    assert born_columns(survey.runs, "r0").tolist() == [2, 8]
    assert born_columns(survey.runs, "r1").tolist() == [3]
    assert born_columns(survey.runs, "r2").tolist() == []
    born = [
        cells.tolist() for cells in np.nonzero(survey.grid(Window(0, 4, 4, layer=-1)).states == State.BORN)
    ]
    assert [survey.runs.ops[op] for op in born[0]] == ["0.attn", "0.attn", "1.attn"]
    assert born[1] == [0, 3, 1]


@pytest.mark.parametrize(("size", "columns"), [(0, 5), (1, 5), (5, 5), (7, 3), (1000, 999)])
def test_columns_are_as_many_as_asked_for_and_none_is_empty(size: int, columns: int):
    edges = edges_of(10, 10 + size, columns)
    assert len(edges) - 1 == min(size, columns)
    assert edges[0] == 10
    assert edges[-1] == 10 + size
    assert (np.diff(edges) > 0).all()


def test_a_request_that_no_run_has_is_a_callers_mistake(tmp_path: Path):
    with pytest.raises(ValueError, match="no request is called 'nobody'"):
        survey_of(tmp_path).grid(Window(0, 4, 4, request="nobody"))

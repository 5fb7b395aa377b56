"""Steps beside each other, with gaps; KV blocks held."""

from pathlib import Path

import numpy as np
import pytest

from detrec.engines.base import Event, EventKind
from detrec.replayer.survey.steps import aligned
from detrec.replayer.survey.survey import Survey
from tests.replayer.fakes import part
from tests.replayer.survey.traces import STEPS, finished, written


def beside(survey: Survey) -> list[tuple[int | None, int | None, tuple[str, ...]]]:
    pairs = [survey.schedule[index] for index in range(len(survey.schedule))]
    return [
        (
            None if pair.recorded is None else pair.recorded.index,
            None if pair.replayed is None else pair.replayed.index,
            pair.differs,
        )
        for pair in pairs
    ]


def survey_of(tmp_path: Path, other: list, **options) -> Survey:
    return Survey(written(tmp_path / "a.zarr"), written(tmp_path / "b.zarr", other, **options))


def test_equal_schedules_stand_step_by_step(tmp_path: Path):
    assert beside(survey_of(tmp_path, STEPS)) == [(step, step, ()) for step in range(4)]


def test_a_step_that_one_run_has_more_leaves_a_gap(tmp_path: Path):
    split = [[part("r0", 0, 4, samples=False)], [part("r0", 4, 6), part("r1", 0, 3)]]
    assert beside(survey_of(tmp_path, [*split, *STEPS[1:]])) == [
        (0, 0, ("slices",)),
        (None, 1, ("step",)),
        (1, 2, ()),
        (2, 3, ()),
        (3, 4, ()),
    ]


def test_what_differs_of_a_step_is_named_and_marked(tmp_path: Path):
    shuffled = [STEPS[0], STEPS[1], STEPS[2][::-1], ([*STEPS[3]], [finished("r0", 3)])]
    survey = survey_of(tmp_path, shuffled, kernels=lambda index: ("split_k" if index == 1 else "kernel",) * 9)
    assert [differs for _, _, differs in beside(survey)] == [(), ("kernels",), ("order",), ("finished",)]
    pair = survey.schedule[2]
    assert pair.recorded.changed == (True, False, True)
    assert [of.request for of in pair.replayed.slices] == ["r2", "r1", "r0"]


@pytest.mark.parametrize(
    ("padding", "differs"),
    [
        pytest.param(None, (), id="a CPU has no padding that could be another"),
        pytest.param(0, (), id="equal padding"),
        pytest.param(3, ("padding",), id="more padding"),
    ],
)
def test_padding_and_graphs_are_compared_where_both_have_them(
    tmp_path: Path, padding: int | None, differs: tuple[str, ...]
):
    found = beside(survey_of(tmp_path, STEPS, padding=padding))
    assert [each for _, _, each in found] == [differs] * len(STEPS)


def test_the_next_pair_that_differs_and_the_one_before(tmp_path: Path):
    hit = (STEPS[1], [Event(EventKind.HIT, "r2", 0)])
    schedule = survey_of(tmp_path, [STEPS[0], hit, STEPS[2], STEPS[3][::-1]]).schedule
    assert schedule.differing.tolist() == [False, True, False, True]
    assert (schedule.next_differing(-1), schedule.next_differing(1), schedule.next_differing(3)) == (
        1,
        3,
        None,
    )
    assert (schedule.previous_differing(3), schedule.previous_differing(1)) == (1, None)


def test_one_run_alone_has_no_other_side(tmp_path: Path):
    survey = Survey(written(tmp_path / "a.zarr"))
    assert beside(survey) == [(step, None, ()) for step in range(4)]
    assert not survey.schedule.differing.any()


@pytest.mark.parametrize("seed", range(20))
def test_an_alignment_has_every_step_once_and_in_order(seed: int):
    rng = np.random.default_rng(seed)
    ours = rng.integers(0, 30, rng.integers(0, 25)).astype(np.uint64)
    theirs = np.delete(ours, rng.integers(0, max(len(ours), 1), 3) % max(len(ours), 1)) if len(ours) else ours
    pairs = aligned(ours, theirs)
    for side, values in enumerate((ours, theirs)):
        assert pairs[pairs[:, side] >= 0, side].tolist() == list(range(len(values)))


def test_kv_blocks_grow_with_a_request_and_are_given_back(tmp_path: Path):
    steps = [
        [part("r0", 0, 6)],
        ([part("r0", 6, 9), part("r1", 0, 4)], [finished("r1", 1)]),
        ([part("r0", 9, 10)], []),
        ([part("r2", 0, 1)], [Event(EventKind.PREEMPTED, "r0", 10)]),
        ([part("r0", 4, 10), part("r2", 1, 2)], [Event(EventKind.HIT, "r0", 4), finished("r0", 4)]),
        [part("r2", 2, 3)],
    ]
    (use,) = Survey(written(tmp_path / "a.zarr", steps)).kv()
    # blocks of 4: r0 has 2, 3, 3, none while it is preempted, 3; r1 has 1 in its only step; r2 has 1
    assert use.held.tolist() == [2, 4, 3, 1, 4, 1]
    assert (use.blocks, use.block_size, use.served, use.computed) == (8, 4, 4, 23)
    assert [(each.step, each.request, each.tokens) for each in use.preemptions] == [(3, "r0", 10)]


def test_a_manifest_without_a_block_size_gives_no_kv_use(tmp_path: Path):
    assert Survey(written(tmp_path / "a.zarr", manifest={})).kv() == (None,)

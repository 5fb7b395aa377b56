"""Schedules and seeds side by side."""

import numpy as np
import pytest

from detrec.engines.base import Event, EventKind, Kind
from detrec.replayer.compare import compare
from detrec.replayer.schedule_diff import SHOWN
from tests.replayer.fakes import fake_trace, part

BASE = [[part("r0", 0, 8), part("r1", 0, 4)], [part("r0", 8, 9), part("r1", 4, 5)]]


def first(steps: list) -> tuple:
    found = compare(fake_trace(BASE), fake_trace(steps)).schedule_diff.shown[0]
    return found.step, found.what, found.recorded, found.replayed


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param(
            [[part("r0", 0, 8)], BASE[1]], (0, "slices", "r0[0:8) r1[0:4)", "r0[0:8)"), id="another request"
        ),
        pytest.param(
            [BASE[0], BASE[1][::-1]], (1, "order", "r0[8:9) r1[4:5)", "r1[4:5) r0[8:9)"), id="another order"
        ),
        pytest.param(
            [[part("r0", 0, 6), part("r1", 0, 4)], [part("r0", 6, 9), part("r1", 4, 5)]],
            (0, "boundaries", "r0[0:8) r1[0:4)", "r0[0:6) r1[0:4)"),
            id="another boundary",
        ),
        pytest.param(
            [BASE[0], [part("r0", 8, 9, kind=Kind.PREFILL), part("r1", 4, 5)]],
            (
                1,
                "kind",
                "r0[8:9) decode, samples r1[4:5) decode, samples",
                "r0[8:9) prefill, samples r1[4:5) decode, samples",
            ),
            id="another kind",
        ),
        pytest.param(
            [BASE[0], (BASE[1], [Event(EventKind.PREEMPTED, "r2", 3)])],
            (1, "preemption", "none", "r2 3 tokens"),
            id="a preemption",
        ),
        pytest.param(
            [(BASE[0], [Event(EventKind.HIT, "r1", 16)]), BASE[1]],
            (0, "hit", "none", "r1 16 tokens"),
            id="a hit",
        ),
        pytest.param([*BASE, [part("r0", 9, 10)]], (2, "steps", "ended", "r0[9:10)"), id="one step more"),
        pytest.param(BASE[:1], (1, "steps", "r0[8:9) r1[4:5)", "ended"), id="one step less"),
    ],
)
def test_the_first_difference_is_described(steps, expected):
    assert first(steps) == expected


def test_the_kv_block_and_the_numbers_of_requests_do_not_matter():
    other = fake_trace(BASE, ids=("r2", "r1", "r0"))
    assert not compare(fake_trace(BASE), other).schedule_diff.total


def test_a_seed_or_counter_that_differs_is_told():
    recorded, replayed = fake_trace(BASE), fake_trace(BASE)
    replayed.drawn.counter = replayed.drawn.counter + np.array([0, 0, 0, 5], np.uint64)
    diff = compare(recorded, replayed).schedule_diff
    assert (diff.total, diff.shown[0].step, diff.shown[0].what) == (1, 1, "seed")
    assert (diff.shown[0].recorded, diff.shown[0].replayed) == (
        "r1[4] seed 42 counter 4",
        "r1[4] seed 42 counter 9",
    )


def test_many_differences_are_counted_and_the_earliest_shown_in_order():
    steps = [[part("r0", at, at + 1), part("r1", at, at + 1)] for at in range(50)]
    recorded, replayed = fake_trace(steps), fake_trace([*steps[:3], *(step[::-1] for step in steps[3:])])
    replayed.drawn.seed = replayed.drawn.seed + np.uint64(1)
    diff = compare(recorded, replayed).schedule_diff
    assert diff.total == 47 + 100
    assert len(diff.shown) == SHOWN
    assert [shown.step for shown in diff.shown] == sorted(shown.step for shown in diff.shown)
    assert [shown.what for shown in diff.shown[:9]] == ["seed"] * 6 + ["order", "seed", "seed"]


def test_a_long_step_is_shortened():
    many = [part(f"r{i}", 0, 1) for i in range(9)]
    ids = [f"r{i}" for i in range(9)]
    diff = compare(fake_trace([many], ids=ids), fake_trace([many[::-1]], ids=ids)).schedule_diff
    assert diff.shown[0].recorded == "r0[0:1) r1[0:1) r2[0:1) r3[0:1) r4[0:1) r5[0:1) and 3 more"

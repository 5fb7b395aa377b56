"""Rows side by side by request and position."""

import time

import numpy as np
import pytest

from detrec.errors import TraceCorrupt
from detrec.replayer.align import Places, align, earlier_pairs, sampling_rows


def places(*entries: tuple[int, ...], cached: tuple[int, ...] = (0, 0)) -> Places:
    """(request, position[, generation]) of each entry."""
    full = [(*entry, 0)[:3] for entry in entries]
    request, position, generation = np.array(full, np.int32).reshape(-1, 3).T
    return Places(request, position, generation, np.array(cached))


def test_rows_meet_by_place_in_the_recorded_order():
    aligned = align(places((0, 0), (1, 0), (0, 1)), places((1, 0), (0, 0), (0, 1)))
    assert aligned.recorded.tolist() == [0, 1, 2]
    assert aligned.replayed.tolist() == [1, 0, 2]
    assert not len(aligned.only_recorded)
    assert not len(aligned.only_replayed)


def test_the_latest_row_of_a_place_counts():
    aligned = align(places((0, 0), (0, 1), (0, 0, 1), (0, 1, 1)), places((0, 0), (0, 1)))
    assert aligned.recorded.tolist() == [2, 3]
    assert aligned.superseded == 2


def test_a_row_of_one_run_is_missing_in_the_other():
    aligned = align(places((0, 0), (0, 1)), places((0, 0), (1, 0)))
    assert aligned.only_recorded.tolist() == [1]
    assert aligned.only_replayed.tolist() == [1]


def test_a_position_served_from_the_cache_is_not_missing():
    whole = places((0, 0), (0, 1), (0, 2))
    tail = places((0, 2), cached=(2, 0))
    for aligned in (align(whole, tail), align(tail, whole)):
        assert (len(aligned.only_recorded), len(aligned.only_replayed), aligned.cached) == (0, 0, 2)


def test_a_position_after_the_cached_ones_is_missing():
    aligned = align(places((0, 0), (0, 1), (0, 2)), places((0, 2), cached=(1, 0)))
    assert aligned.only_recorded.tolist() == [1]


def test_what_follows_an_unclosed_recording_is_beyond_it_and_a_hole_in_it_is_not():
    recorded, replayed = places((0, 0), (0, 2)), places((0, 0), (0, 1), (0, 2), (0, 3), (1, 0))
    assert align(recorded, replayed).only_replayed.tolist() == [1, 3, 4]
    aligned = align(recorded, replayed, prefix=True)
    assert aligned.only_replayed.tolist() == [1]
    assert aligned.beyond == 2


def test_an_earlier_row_stands_beside_the_same_generation_or_the_latest():
    twice = places((0, 0), (0, 1), (0, 0, 1), (0, 1, 1))
    assert [side.tolist() for side in earlier_pairs(twice, twice)] == [[0, 1], [0, 1]]
    once = places((0, 0), (0, 1))
    assert [side.tolist() for side in earlier_pairs(twice, once)] == [[0, 1], [0, 1]]
    assert [side.tolist() for side in earlier_pairs(once, twice)] == [[0, 1], [0, 1]]
    assert [side.tolist() for side in earlier_pairs(once, once)] == [[], []]


@pytest.mark.parametrize("seed", range(10))
def test_agrees_with_a_dictionary(seed):
    rng = np.random.default_rng(seed)
    runs = [places(*rng.integers(0, [2, 6], (rng.integers(0, 12), 2)).tolist()) for _ in range(2)]
    left, right = (
        {place: i for i, place in enumerate(zip(q.request.tolist(), q.position.tolist(), strict=True))}
        for q in runs
    )
    aligned = align(*runs)
    expected = sorted((left[place], right[place]) for place in left.keys() & right.keys())
    assert list(zip(aligned.recorded.tolist(), aligned.replayed.tolist(), strict=True)) == expected
    assert aligned.only_recorded.tolist() == sorted(left[place] for place in left.keys() - right.keys())
    assert aligned.only_replayed.tolist() == sorted(right[place] for place in right.keys() - left.keys())
    assert aligned.superseded == sum(map(len, runs)) - len(left) - len(right)


def test_a_draw_belongs_to_the_row_of_its_step():
    rows, step = places((0, 0), (0, 1), (0, 0, 1), (0, 1, 1), (0, 2, 1)), np.array([0, 1, 3, 3, 3])
    drawn = places((0, 0), (0, 1), (0, 2))
    assert sampling_rows(rows, step, drawn, np.array([0, 1, 3])).tolist() == [0, 1, 4]


def test_a_draw_without_its_row_is_refused():
    with pytest.raises(
        TraceCorrupt, match="sample 0 of step 2: no row of that step stands at its position 1"
    ):
        sampling_rows(places((0, 0), (0, 1)), np.array([0, 0]), places((0, 1)), np.array([2]))


def test_no_rows():
    aligned = align(places(), places())
    assert not len(aligned.recorded)
    assert not len(sampling_rows(places(), np.zeros(0, int), places(), np.zeros(0, int)))


def test_a_million_rows_are_aligned_in_half_a_second():
    request = np.repeat(np.arange(1000, dtype=np.int32), 1000)
    position = np.tile(np.arange(1000, dtype=np.int32), 1000)
    none = np.zeros(len(request), np.int32)
    run = Places(request, position, none, np.zeros(1000, np.int64))
    begin = time.process_time()
    assert len(align(run, run).recorded) == 1_000_000
    assert time.process_time() - begin < 0.5

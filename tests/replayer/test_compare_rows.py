"""Which rows of two runs meet: those the prefix cache spared, those computed again, and any at all."""

import numpy as np
import pytest

from detrec.engines.base import SAMPLE_OPS, Event, EventKind
from detrec.replayer.compare import compare
from tests.replayer.fakes import FakeTrace, fake_trace, part
from tests.replayer.schedules import DRAWN, HIT, NO_HIT, NOT_PREEMPTED, PLAIN, PREEMPTED


def test_positions_from_the_prefix_cache_are_neither_equal_nor_missing():
    for recorded, replayed in ((HIT, NO_HIT), (NO_HIT, HIT)):
        found = compare(fake_trace(recorded), fake_trace(replayed))
        assert found.verdict == "identical"
        assert found.rows.cached == 2
        assert found.counts.compared == 8 * PLAIN + 2 * DRAWN


def test_a_preempted_request_counts_once_by_its_latest_rows():
    for recorded, replayed in (
        (PREEMPTED, NOT_PREEMPTED),
        (NOT_PREEMPTED, PREEMPTED),
        (PREEMPTED, PREEMPTED),
    ):
        found = compare(fake_trace(recorded), fake_trace(replayed))
        assert found.verdict == "identical"
        # the rows that drew positions 2 and 3 were computed again without drawing, and still count
        assert found.counts.compared == 7 * PLAIN + 4 * DRAWN
        assert found.rows.superseded == 4 * ((recorded is PREEMPTED) + (replayed is PREEMPTED))


@pytest.mark.parametrize("other", [PREEMPTED, NOT_PREEMPTED], ids=["preempted", "not preempted"])
def test_a_divergence_in_rows_computed_again_later_is_found_where_it_was_born(other):
    recorded, replayed = fake_trace(PREEMPTED), fake_trace(other)
    recorded.change("r0", 1, "0.attn", nth=0)
    recorded.change("r0", 2, "logits", nth=0)
    found = compare(recorded, replayed)
    assert (found.first.step, found.first.position, found.first.op) == (0, 1, "attn")
    assert (found.counts.born, found.counts.inherited) == (1, 1)


def test_a_request_computed_anew_does_not_inherit_from_its_first_life():
    recorded, replayed = fake_trace(PREEMPTED), fake_trace(PREEMPTED)
    replayed.change("r0", 1, "0.attn", nth=0)
    replayed.change("r0", 2, "1.attn", nth=1)
    assert compare(recorded, replayed).counts.born == 2


def random_steps(rng: np.random.Generator) -> list:
    """A schedule of three requests with chunks, and a preemption now and then."""
    done, steps = dict.fromkeys(("r0", "r1", "r2"), 0), []
    for _ in range(rng.integers(6, 14)):
        slices, events = [], []
        for name in rng.permutation([*done])[: rng.integers(1, 4)].tolist():
            if done[name] > 2 and rng.random() < 0.15:
                events.append(Event(EventKind.PREEMPTED, name, done[name]))
                done[name] = 0
            stop = done[name] + int(rng.integers(1, 4))
            slices.append(part(name, done[name], stop, samples=bool(rng.random() < 0.6)))
            done[name] = stop
        steps.append((slices, events))
    return steps


def latest_cells(trace: FakeTrace) -> dict[tuple, int]:
    """The fingerprint that counts of every cell: of the latest row, for draws of the latest that drew."""
    found = {}
    for rank in range(trace.ranks):
        for row in range(trace.n_rows):
            for op, name in enumerate(trace.ops):
                value = int(trace.cells[rank, row, op])
                if name not in SAMPLE_OPS or value:
                    found[int(trace.row_request[row]), int(trace.row_position[row]), name, rank] = value
    return found


@pytest.mark.parametrize("seed", range(30))
def test_counts_agree_with_a_dictionary_of_cells(seed):
    rng = np.random.default_rng(seed)
    recorded, replayed = (fake_trace(random_steps(rng), ranks=1 + seed % 2) for _ in range(2))
    places = set(zip(replayed.row_request.tolist(), replayed.row_position.tolist(), strict=True))
    for row in sorted(replayed.at(f"r{request}", position) for request, position in places):
        for op in np.flatnonzero(rng.random(PLAIN) < 0.05):
            replayed.cells[0, row, op] = rng.choice([0, 7, 8])
    ours, theirs = latest_cells(recorded), latest_cells(replayed)
    both = {cell for cell in ours.keys() & theirs.keys() if ours[cell] and theirs[cell]}
    differ = {cell for cell in both if ours[cell] != theirs[cell]}
    once = not len(recorded.columns["events/step"]) and not len(replayed.columns["events/step"])
    found = compare(recorded, replayed)
    assert found.counts.equal == len(both) - len(differ)
    assert found.counts.missing == len(ours.keys() | theirs.keys()) - len(both)
    if once:
        assert found.counts.compared == len(both)
    assert found.counts.compared >= len(both)
    assert found.verdict == ("diverged" if differ else "incomplete" if found.counts.missing else "identical")

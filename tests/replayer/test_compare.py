"""Two traces compared: what counts as equal, divergent and missing, and what is named first."""

from dataclasses import replace

import numpy as np
import pytest

from detrec.engines.base import SAMPLE_OPS, Event, EventKind
from detrec.replayer.compare import compare
from tests.replayer.fakes import OPS, FakeTrace, fake_trace, part

PLAIN, DRAWN = len(OPS) - 2, 2
STEPS = [
    [part("r0", 0, 4), part("r1", 0, 3, samples=False)],
    [part("r0", 4, 5), part("r1", 3, 6)],
    [part("r0", 5, 6), part("r1", 6, 7)],
]
# the same requests, one after the other
OTHER_STEPS = [
    [part("r1", 0, 6)],
    [part("r1", 6, 7), part("r0", 0, 4)],
    [part("r0", 4, 5)],
    [part("r0", 5, 6)],
]
HIT = [[part("r0", 0, 4)], ([part("r1", 2, 6)], [Event(EventKind.HIT, "r1", 2)])]
NO_HIT = [[part("r0", 0, 4)], [part("r1", 0, 6)]]
# r0 loses its cache after step 1 and is computed again in step 3
PREEMPTED = [
    [part("r0", 0, 3)],
    [part("r0", 3, 4)],
    ([part("r1", 0, 2)], [Event(EventKind.PREEMPTED, "r0", 4)]),
    [part("r0", 0, 5)],
]
NOT_PREEMPTED = [[part("r0", 0, 3)], [part("r0", 3, 4)], [part("r1", 0, 2), part("r0", 4, 5)]]


def test_equal_traces_are_identical():
    found = compare(fake_trace(STEPS), fake_trace(STEPS))
    cells = 13 * PLAIN + 5 * DRAWN
    assert found.verdict == "identical"
    assert found.counts == replace(found.counts, compared=cells, equal=cells, born=0, inherited=0, missing=0)
    assert found.first is None
    assert found.tokens.equal
    assert not found.manifest_diff
    assert not found.schedule_diff.total


def test_another_schedule_alone_is_no_divergence():
    found = compare(fake_trace(STEPS), fake_trace(OTHER_STEPS))
    assert found.verdict == "identical"
    assert found.counts.compared == 13 * PLAIN + 5 * DRAWN
    assert found.schedule_diff.total == 4


def test_the_first_divergence_is_named_whole():
    recorded, replayed = fake_trace(STEPS, ranks=2), fake_trace(OTHER_STEPS, ranks=2)
    for position, op in ((4, "0.attn"), (4, "0.output"), (4, "logits"), (5, "0.attn"), (6, "1.qkv")):
        replayed.change("r1", position, op, rank=1)
    found = compare(recorded, replayed)
    first = found.first
    assert (first.step, first.request, first.position) == (1, "r1", 4)
    assert (first.layer, first.op, first.rank) == (0, "attn", 1)
    assert first.recorded == recorded.cells[1, recorded.at("r1", 4), 2]
    assert first.replayed == first.recorded + (1 << 32)
    assert (found.counts.born, found.counts.inherited, found.counts.missing) == (2, 2, 0)
    assert found.verdict == "diverged"


def test_an_op_outside_layers_has_no_layer():
    recorded, replayed = fake_trace(STEPS), fake_trace(STEPS)
    replayed.change("r0", 3, "logits")
    assert (compare(recorded, replayed).first.layer, compare(recorded, replayed).first.op) == (None, "logits")


def test_a_cell_in_one_run_only_is_missing_and_never_equal():
    recorded, replayed = fake_trace(STEPS), fake_trace(STEPS)
    replayed.cells[0, 2, 3] = 0
    found = compare(recorded, replayed)
    assert found.verdict == "incomplete"
    assert (found.counts.missing, found.counts.compared) == (1, 13 * PLAIN + 5 * DRAWN - 1)
    assert compare(replayed, recorded).counts == found.counts


def test_a_cell_in_neither_run_is_missing_where_the_op_is_recorded_elsewhere():
    traces = fake_trace(STEPS), fake_trace(STEPS)
    for trace in traces:
        trace.cells[0, 2, 3] = 0
    found = compare(*traces)
    assert (found.verdict, found.counts.missing) == ("incomplete", 1)


def test_an_op_that_one_rank_never_runs_is_not_missing_there():
    traces = fake_trace(STEPS, ranks=2), fake_trace(STEPS, ranks=2)
    for trace in traces:
        trace.cells[1, :, 3] = 0
    found = compare(*traces)
    assert found.verdict == "identical"
    assert found.counts.compared == 2 * (13 * PLAIN + 5 * DRAWN) - 13


def test_a_divergence_outweighs_what_is_missing():
    recorded, replayed = fake_trace(STEPS), fake_trace(STEPS[:2])
    replayed.change("r0", 0, "embedding")
    found = compare(recorded, replayed)
    assert found.verdict == "diverged"
    assert found.counts.missing == 2 * len(OPS)
    assert found.rows.missing == 2


def test_a_replay_that_stops_early_leaves_the_rest_missing():
    found = compare(fake_trace(STEPS), fake_trace(STEPS[:2], status="failed"))
    assert found.verdict == "incomplete"
    assert found.counts.missing == 2 * len(OPS)
    assert not found.tokens.equal


@pytest.mark.parametrize("status", ["recording", "failed"])
def test_a_recording_never_closed_is_compared_up_to_its_end(status):
    found = compare(fake_trace(STEPS[:2], status=status), fake_trace(STEPS))
    assert found.verdict == "identical"
    assert (found.rows.beyond, found.counts.missing) == (2, 0)
    assert not found.schedule_diff.total
    assert compare(fake_trace(STEPS[:2]), fake_trace(STEPS)).verdict == "incomplete"


def test_nothing_in_common_is_not_identical():
    assert compare(fake_trace([]), fake_trace([])).verdict == "incomplete"
    assert compare(fake_trace(STEPS, ops=OPS[:1]), fake_trace(STEPS, ops=OPS[1:])).verdict == "incomplete"


def test_a_draw_of_one_run_only_is_not_identical():
    silent = [[part("r0", 0, 4, samples=False)]]
    found = compare(fake_trace([[part("r0", 0, 4)]], ops=OPS[:-2]), fake_trace(silent, ops=OPS[:-2]))
    assert (found.verdict, found.counts.missing) == ("incomplete", 0)


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


def flipped(position: int) -> FakeTrace:
    """STEPS, with another token in r0 from `position` on."""
    return fake_trace(STEPS, token=lambda name, at: at + 1 + 100 * (name == "r0" and at >= position))


def test_all_that_follows_another_token_is_inherited_from_the_draw():
    replayed = flipped(4)
    for position, op in ((3, "sampled"), (4, "embedding"), (5, "embedding"), (5, "sampled")):
        replayed.change("r0", position, op)
    found = compare(fake_trace(STEPS), replayed)
    assert (found.first.op, found.first.position) == ("sampled", 3)
    assert (found.counts.born, found.counts.inherited) == (1, 3)
    flip = found.tokens.first_flip
    assert (flip.request, flip.position, flip.recorded, flip.replayed, flip.margin) == ("r0", 3, 5, 105, 0.25)


def test_an_input_that_was_given_differently_is_born_at_the_first_op():
    replayed = flipped(2)
    replayed.drawn.token = fake_trace(STEPS).drawn.token
    replayed.change("r0", 2, "embedding")
    found = compare(fake_trace(STEPS), replayed)
    assert (found.first.op, found.first.position, found.counts.born) == ("embedding", 2, 1)


def test_a_token_flip_is_a_divergence_where_no_fingerprint_differs():
    found = compare(fake_trace(STEPS), flipped(6))
    assert found.verdict == "diverged"
    assert found.first is None
    assert found.tokens.first_flip.position == 5


def test_rows_missing_after_another_token_are_told_apart():
    longer = [*STEPS, [part("r0", 6, 7), part("r1", 7, 8)]]
    replayed = fake_trace(longer, token=lambda name, at: at + 1 + 100 * (name == "r0" and at >= 6))
    found = compare(fake_trace(STEPS), replayed)
    assert (found.rows.missing, found.rows.after_flip) == (2, 1)


def test_ops_that_the_level_leaves_out_are_not_missing():
    layers = tuple(name for name in OPS if "." not in name or name.endswith("output"))
    for recorded, replayed in ((OPS, layers), (layers, OPS)):
        found = compare(fake_trace(STEPS, ops=recorded), fake_trace(STEPS, ops=replayed))
        assert found.verdict == "identical"
        assert found.ops == layers
        assert found.counts.compared == 13 * (len(layers) - 2) + 5 * DRAWN


def test_any_other_op_of_one_run_is_missing_in_the_other():
    found = compare(fake_trace(STEPS), fake_trace(STEPS, ops=[name for name in OPS if name != "1.attn"]))
    assert (found.verdict, found.counts.missing) == ("incomplete", 13)
    assert compare(fake_trace(STEPS, ops=OPS[:-1]), fake_trace(STEPS)).counts.missing == 5


def test_ops_in_another_order_meet_by_name():
    replayed = fake_trace(STEPS, ops=OPS[::-1])
    assert compare(fake_trace(STEPS), replayed).verdict == "identical"
    replayed.change("r0", 1, "1.qkv")
    assert compare(fake_trace(STEPS), replayed).first.op == "qkv"


def test_kernels_are_named_where_they_differ():
    recorded = fake_trace(STEPS)
    replayed = fake_trace(STEPS, kernels={1: ("kernel",) * 2 + ("split",) + ("kernel",) * 6})
    replayed.change("r0", 4, "0.attn")
    assert compare(recorded, replayed).kernels == ("kernel", "split")
    replayed.kernels = {}
    assert compare(recorded, replayed).kernels is None


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


def test_the_first_divergence_is_told_while_the_rest_is_compared():
    recorded, replayed = fake_trace(STEPS), fake_trace(STEPS)
    replayed.change("r1", 4, "0.attn")
    replayed.change("r0", 5, "0.qkv")
    told = []
    found = compare(
        recorded,
        replayed,
        progress=lambda what, done, total: told.append(done),
        sighted=lambda first: told.append(first),
    )
    assert told.index(found.first) < len(told) - 1
    assert [first for first in told if not isinstance(first, int)] == [found.first]
    assert not compare(recorded, recorded, sighted=told.append).counts.born


def test_what_differs_is_checked_and_what_is_equal_is_not(monkeypatch):
    looked: list[tuple[int, bool]] = []
    read = FakeTrace.fingerprints

    def watched(trace, start, stop, rank=0, *, checked=True):
        if trace is replayed:
            looked.append((start // 4, checked))
        return read(trace, start, stop, rank)

    recorded, replayed = fake_trace(STEPS), fake_trace(OTHER_STEPS)
    monkeypatch.setattr(FakeTrace, "fingerprints", watched)
    compare(recorded, replayed)
    # the first chunk, where columns are looked up, is read as a trace is read anywhere
    assert {chunk for chunk, checked in looked if checked} <= {0, 1}
    assert {chunk for chunk, checked in looked if not checked} == {0, 1, 2, 3}
    looked.clear()
    replayed.change("r0", 5, "0.attn")
    compare(recorded, replayed)
    assert (replayed.at("r0", 5) // 4, True) in looked

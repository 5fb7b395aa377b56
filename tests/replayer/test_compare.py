"""Two traces compared: what counts as equal, divergent and missing, and what is named first."""

from dataclasses import replace

import pytest

from detrec.replayer.compare import compare
from tests.replayer.fakes import OPS, FakeTrace, fake_trace, part
from tests.replayer.schedules import DRAWN, OTHER_STEPS, PLAIN, STEPS


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

"""Runs on other numbers of ranks, compared: every op but the ranks' summands, and none of these as equal."""

import numpy as np
import pytest

from detrec.replayer.compare import compare
from tests.replayer.parallel import OPS, STEPS, parallel_trace

SIZES = [(1, 2), (2, 1), (2, 4), (4, 2), (1, 3), (3, 2)]
ROWS, DRAWS = 13, 5
# embedding, o_proj and output; logits and sampled; qkv and attn
WHOLE, DRAWN, CUT = 3, 2, 2


@pytest.mark.parametrize(("ours", "theirs"), SIZES)
def test_one_run_on_other_ranks_is_identical(ours, theirs):
    found = compare(parallel_trace(ours), parallel_trace(theirs))
    lanes = max(ours, theirs)
    cells = ROWS * (WHOLE * lanes + CUT) + DRAWS * DRAWN * lanes
    assert found.verdict == "identical"
    assert (found.counts.compared, found.counts.equal, found.counts.missing) == (cells, cells, 0)
    assert found.incomparable == ("0.o_partial",)
    assert "0.o_partial" not in found.ops
    assert [difference.key for difference in found.manifest_diff] == ["ranks"]


def test_as_many_ranks_are_compared_rank_by_rank_summands_too():
    recorded, replayed = parallel_trace(2), parallel_trace(2)
    assert compare(recorded, replayed).incomparable == ()
    replayed.change("r1", 4, "0.o_partial", rank=1)
    first = compare(recorded, replayed).first
    assert (first.op, first.rank) == ("o_partial", 1)
    # one share goes up as another goes down: only the ranks by themselves show it
    other = parallel_trace(2)
    other.cells[:, other.at("r1", 4), OPS.index("0.qkv")] += np.array([3, 2**64 - 3], np.uint64)
    found = compare(recorded, other)
    assert (found.first.op, found.first.rank, found.counts.born) == ("qkv", 0, 2)


@pytest.mark.parametrize(("ours", "theirs"), SIZES)
@pytest.mark.parametrize("op", ["0.qkv", "0.attn"])
def test_a_share_of_any_rank_shows_in_the_sum(ours, theirs, op):
    for rank in range(theirs):
        recorded, replayed = parallel_trace(ours), parallel_trace(theirs)
        replayed.change("r1", 4, op, rank=rank)
        found = compare(recorded, replayed)
        first = found.first
        assert (first.step, first.request, first.position, first.op) == (1, "r1", 4, op[2:])
        assert first.rank is None
        assert first.replayed - first.recorded in (1 << 32, (1 << 32) - (1 << 64))
        assert (found.counts.born, found.counts.inherited) == (1, 0)


@pytest.mark.parametrize(("ours", "theirs"), SIZES)
def test_a_rank_that_differs_in_what_all_have_is_named(ours, theirs):
    for rank in range(theirs):
        recorded, replayed = parallel_trace(ours), parallel_trace(theirs)
        replayed.change("r0", 5, "0.o_proj", rank=rank)
        found = compare(recorded, replayed)
        assert found.verdict == "diverged"
        assert (found.first.op, found.first.position) == ("o_proj", 5)
        # where the other run has more ranks, its last ones stand beside rank 0
        assert found.first.rank == rank


def test_what_a_rank_did_not_record_is_missing_and_never_equal():
    for op, rank, missing in (("0.attn", 2, 1), ("0.output", 1, 1), ("0.o_partial", 1, 0)):
        recorded, replayed = parallel_trace(1), parallel_trace(3)
        replayed.cells[rank, replayed.at("r0", 2), OPS.index(op)] = 0
        found = compare(recorded, replayed)
        assert found.counts.missing == missing
        assert found.verdict == ("incomplete" if missing else "identical")


def test_an_op_of_one_run_only_is_missing_on_its_ranks():
    recorded, replayed = parallel_trace(1), parallel_trace(2)
    # the op is there by another name
    replayed.ops = tuple("0.other" if op == "0.attn" else op for op in OPS)
    found = compare(recorded, replayed)
    assert found.counts.missing == ROWS + 2 * ROWS
    assert found.verdict == "incomplete"


def test_rows_in_another_order_are_summed_alike():
    others = [list(reversed(step)) for step in STEPS]
    recorded, replayed = parallel_trace(1), parallel_trace(2, others)
    assert compare(recorded, replayed).verdict == "identical"
    rng = np.random.default_rng(3)
    rows = rng.permutation(replayed.n_rows)[:3]
    replayed.cells[1, rows, OPS.index("0.attn")] += np.uint64(1)
    assert compare(recorded, replayed).counts.born == 3

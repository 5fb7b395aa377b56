"""Whether the ranks of one run agree in what all of them have."""

import pytest

from detrec.replayer.agreement import Disagreement, ranks_disagree
from detrec.replayer.compare import compare
from tests.replayer.parallel import OPS, parallel_trace


def test_ranks_that_agree():
    for ranks in (1, 2, 3):
        assert ranks_disagree(parallel_trace(ranks)) is None


def test_shares_and_summands_may_differ():
    trace = parallel_trace(2)
    trace.change("r0", 1, "0.qkv", rank=1)
    trace.change("r0", 1, "0.o_partial", rank=1)
    assert ranks_disagree(trace) is None


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_the_first_by_step_op_and_row_is_named(rank):
    trace = parallel_trace(3)
    # later steps, a later op, a later row; chunks have four rows, so that a step lies in two of them
    for request, position, op in (
        ("r0", 5, "embedding"), ("r1", 6, "embedding"), ("r0", 4, "0.output"), ("r1", 5, "0.o_proj"),
        ("r1", 4, "0.o_proj"),
    ):  # fmt: skip
        trace.change(request, position, op, rank=rank)
    found = ranks_disagree(trace)
    # where rank 0 is alone, it is every other rank that has something else
    assert found == Disagreement(1, "r1", 4, 0, "o_proj", rank or 1)


def test_what_a_rank_did_not_record_is_no_disagreement():
    trace = parallel_trace(2)
    trace.cells[1, 3, OPS.index("0.output")] = 0
    assert ranks_disagree(trace) is None


def test_ranks_of_equal_digests_are_not_read():
    trace = parallel_trace(2, digests=True)
    trace.cells[1] = trace.cells[0]
    assert ranks_disagree(trace) is None
    # 13 rows: three whole chunks of four, and one that has no digest
    assert trace.read == [(12, 13)] * 2


def test_a_comparison_tells_of_either_run():
    good, bad = parallel_trace(2), parallel_trace(2)
    bad.change("r1", 2, "logits", rank=1)
    bad.change("r1", 3, "0.output", rank=1)
    expected = Disagreement(1, "r1", 3, 0, "output", 1)
    assert compare(good, bad).disagreements == (None, expected)
    assert compare(bad, bad).disagreements == (expected, expected)
    assert compare(bad, bad).verdict == "identical"
    assert compare(parallel_trace(1), bad).disagreements == (None, expected)

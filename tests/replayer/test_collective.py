"""What ranks hold at a divergence, and which ops they do together."""

import pytest

from detrec.replayer.collective import is_collective, rank_findings, ranks_again, summand_of
from detrec.replayer.compare import compare
from detrec.replayer.findings import Ranks
from detrec.replayer.witnesses import place_of
from tests.replayer.fakes import FakeTrace
from tests.replayer.parallel import OPS, parallel_trace

INVARIANT = {"config": {"engine": {"reduction": "tp_invariant"}}}


def found(recorded: FakeTrace, replayed: FakeTrace) -> Ranks | None:
    return rank_findings(recorded, replayed, place_of(recorded, replayed, compare(recorded, replayed)))


def changed(ranks: int, *cells: tuple[str, int], **attributes) -> FakeTrace:
    """A run on `ranks` ranks with other cells: (op, rank) at one place."""
    trace = parallel_trace(ranks, **attributes)
    for op, rank in cells:
        trace.change("r1", 4, op, rank=rank)
    return trace


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        pytest.param([("0.o_proj", 0), ("0.o_proj", 1)], Ranks(True, (2, 2), (0, 1)), id="another sum"),
        pytest.param([("0.o_proj", 1)], Ranks(True, (2, 2), (1,)), id="another sum on one rank"),
        pytest.param([("0.o_partial", 1), ("0.o_proj", 1)], Ranks(None, (2, 2), (1,)), id="one summand"),
        pytest.param([("0.attn", 0), ("0.attn", 1)], Ranks(None, (2, 2), (0, 1)), id="no sum"),
    ],
)
def test_as_many_ranks_are_looked_at_one_by_one(cells, expected):
    assert found(parallel_trace(2), changed(2, *cells)) == expected


def test_a_summand_that_was_not_recorded_is_not_equal():
    traces = parallel_trace(2), changed(2, ("0.o_proj", 0), ("0.o_proj", 1))
    for trace in traces:
        trace.cells[1, trace.at("r1", 4), OPS.index("0.o_partial")] = 0
    assert found(*traces) == Ranks(None, (2, 2), (0, 1))


def test_other_numbers_of_ranks_have_no_summands_in_common():
    assert found(parallel_trace(1), changed(2, ("0.o_proj", 0))) == Ranks(None, (1, 2))
    traces = parallel_trace(4, manifest=INVARIANT), changed(2, ("0.o_proj", 0), manifest=INVARIANT)
    assert found(*traces) == Ranks(None, (4, 2), invariant=True)


def test_of_one_rank_there_is_something_to_say_of_sums_only():
    assert found(parallel_trace(1), changed(1, ("0.attn", 0))) is None
    assert found(parallel_trace(1), changed(1, ("0.o_proj", 0))) == Ranks(True, (1, 1), (0,))


def test_what_needs_all_ranks():
    assert is_collective("1.o_proj", "all_reduce", 2)
    assert is_collective("embedding", "embedding", 2)
    assert is_collective("logits", "matmul", 2)
    assert not is_collective("1.qkv", "matmul", 2)
    assert not is_collective("1.o_proj", "all_reduce", 1)


def test_ranks_of_an_op_that_no_trace_has_are_looked_at_as_they_were_run_again():
    traced = Ranks(None, (2, 2), (0, 1), invariant=True)
    sums = ([5, 5], [5, 6])
    assert ranks_again(traced, sums, ([1, 2], [1, 2])) == Ranks(True, (2, 2), (1,), invariant=True)
    assert ranks_again(traced, sums, ([1, 2], [1, 3])) == Ranks(False, (2, 2), (1,), invariant=True)
    # 0: it was not captured
    assert ranks_again(traced, sums, ([0, 0], [0, 0])) == Ranks(None, (2, 2), (1,), invariant=True)
    assert (summand_of("3.down_proj"), summand_of("3.act"), summand_of("logits")) == (
        "3.down_partial",
        "",
        "",
    )

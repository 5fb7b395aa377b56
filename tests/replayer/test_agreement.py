"""Whether the ranks of one run agree in what all of them have."""

from pathlib import Path

import pytest

from detrec import summary
from detrec.recorder.reader import TraceReader
from detrec.recorder.verify import verify
from detrec.replayer.agreement import Disagreement, ranks_disagree
from detrec.replayer.compare import compare
from tests.recorder.runs import Run
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


def test_verify_and_info_tell_of_it(tmp_path: Path):
    # the made-up run has other fingerprints on every rank
    Run(ranks=2).record(tmp_path / "run.zarr")
    trace = TraceReader(tmp_path / "run.zarr")
    found = ranks_disagree(trace)
    assert found == Disagreement(0, "a", 0, None, "embedding", 1)
    lines = summary.verified("run.zarr", verify(tmp_path / "run.zarr"), found).splitlines()
    assert lines[1] == (
        "run.zarr: ranks disagree first at step 0, request a, position 0, op embedding: "
        "rank 1 has not what rank 0 has"
    )
    assert summary.facts(trace)["ranks_disagree"] == {
        "step": 0, "request": "a", "position": 0, "layer": None, "op": "embedding", "rank": 1,
    }  # fmt: skip
    Run().record(tmp_path / "one.zarr")
    assert "ranks_disagree" not in summary.facts(TraceReader(tmp_path / "one.zarr"))
    assert len(summary.verified("one.zarr", verify(tmp_path / "one.zarr"), None).splitlines()) == 1

"""What ranks hold at a divergence, and an op that they do together, done again by all of them."""

import pickle

import pytest

from detrec.config import serve_config
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.builtin.model import op_names
from detrec.engines.builtin.ranks import Ranks as Meeting
from detrec.engines.builtin.ranks import Run
from detrec.engines.builtin.requests import resolve_requests
from detrec.engines.faults import arm
from detrec.kernels import arrays
from detrec.kernels.rendezvous import Rendezvous
from detrec.replayer.capture import Capture
from detrec.replayer.collective import Again, Reserved, is_collective, rank_findings
from detrec.replayer.compare import compare
from detrec.replayer.findings import Batches, Ranks, Repeats
from detrec.replayer.witnesses import place_of
from tests.engines.rank_threads import seeded
from tests.engines.small import prompt, request
from tests.kernels.ranks import in_ranks
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


RANKS = 4
REQUESTS = [request("a", prompt(1, 20), max_tokens=5), request("b", prompt(2, 9), 1, max_tokens=5)]


def done_again(fault: str, job: Again, until: int) -> list[tuple[int, tuple[Repeats, Batches] | None]]:
    """Of each rank, its last step and what `job` gave; the run, with a fault, ends with step `until`."""
    # Paddle must have been imported by the main thread
    arrays.framework_module("paddle")
    engine = {"tensor_parallel_size": RANKS, "max_model_len": 64, "max_num_batched_tokens": 16}
    config = serve_config({"model": "builtin:qwen2-tiny", "engine": engine, "requests": REQUESTS})
    model = seeded()
    resolved = resolve_requests(config, model)

    def work(meeting: Rendezvous) -> tuple[int, tuple[Repeats, Batches] | None]:
        ranks, armed = Meeting(meeting), arm(fault, tuple(op_names(model.config)), lambda text: None)
        built = BuiltinEngine(
            config, model, resolved, fault=armed, ranks=ranks, instruments=[Capture(job.name, until)]
        )
        if meeting.rank:
            run = ranks.told()
            assert isinstance(run, Run)
            steps = [step.index for step, _ in built.run(built.own_scheduler(), until=run.until)]
            ranks.told()(built)
            return steps[-1], ranks.told()(built)
        steps = [step.index for step, _ in built.run(built.own_scheduler(), until=until)]
        built.on_every_rank(Reserved())
        return steps[-1], built.on_every_rank(pickle.loads(pickle.dumps(job)))

    return in_ranks(RANKS, work)


def test_ranks_that_come_by_chance_give_several_sums_all_of_them_the_same():
    every = done_again("allreduce_arrival_order:step=0,op=1.o_proj", Again("1.o_proj", "a", 3), 0)
    assert {last for last, _ in every} == {0}
    repeats, _ = every[0][1]
    assert repeats.times == 32
    assert repeats.distinct > 1
    assert {seen for _, seen in every} == {every[0][1]}


def test_a_sum_that_follows_the_batch_is_steady_on_one():
    # thirteen rows in the step, and this one is where the ring begins at another rank: alone it does not
    every = done_again("all_reduce_by_size:op=0.down_proj,rows=10", Again("0.down_proj", "b", 5), 1)
    repeats, batches = every[0][1]
    assert (every[0][0], repeats.distinct, batches.alone) == (1, 1, False)
    assert every == every[:1] * RANKS


def test_a_row_that_was_not_run_was_run_by_no_rank():
    every = done_again("all_reduce_by_size:op=0.down_proj", Again("0.down_proj", "a", 60), 0)
    assert every == [(0, None)] * RANKS

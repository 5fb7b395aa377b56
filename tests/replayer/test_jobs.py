"""What all ranks of a run do at its last step, as one rank asks: ops again, and moments where they are."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
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
from detrec.kernels.share import summed
from detrec.replayer.capture import Capture, Writes
from detrec.replayer.experiments import print_of
from detrec.replayer.jobs import OWN, Company, Fetched, Outcomes, Reserved, Seen, Written
from tests.engines.rank_threads import seeded
from tests.engines.small import prompt, request
from tests.kernels.ranks import in_ranks

RANKS = 4
REQUESTS = [request("a", prompt(1, 20), max_tokens=5), request("b", prompt(2, 9), 1, max_tokens=5)]


def done(fault: str, op: str, until: int, *jobs: Callable[[BuiltinEngine], Any]) -> list[list[Any]]:
    """What each rank got of each job; the run, with a fault, captures an op of step `until`, its last."""
    # Paddle must have been imported by the main thread
    arrays.framework_module("paddle")
    engine = {"tensor_parallel_size": RANKS, "max_model_len": 64, "max_num_batched_tokens": 16}
    config = serve_config({"model": "builtin:qwen2-tiny", "engine": engine, "requests": REQUESTS})
    model = seeded()
    resolved = resolve_requests(config, model)

    def work(meeting: Rendezvous) -> list[Any]:
        ranks = Meeting(meeting)
        armed = arm(fault, tuple(op_names(model.config)), lambda text: None) if fault else None
        instruments = Capture(op, until), Writes(1)
        built = BuiltinEngine(config, model, resolved, fault=armed, ranks=ranks, instruments=instruments)
        if meeting.rank:
            run = ranks.told()
            assert isinstance(run, Run)
            list(built.run(built.own_scheduler(), until=run.until))
            return [ranks.told()(built) for _ in range(1 + len(jobs))][1:]
        list(built.run(built.own_scheduler(), until=until))
        built.on_every_rank(Reserved())
        return [built.on_every_rank(pickle.loads(pickle.dumps(job))) for job in jobs]

    return in_ranks(RANKS, work)


def together(op: str, request: str, position: int) -> Company:
    return Company(op, request, position, 0, together=True)


def test_ranks_that_come_by_chance_give_several_sums_all_of_them_the_same():
    op = "1.o_proj"
    every = done(f"allreduce_arrival_order:step=0,op={op}", op, 0, together(op, "a", 3))
    ((repeats, _),) = every[0]
    assert repeats.times == 32
    assert repeats.distinct > 1
    assert every == every[:1] * RANKS


def test_a_sum_that_follows_the_batch_is_steady_on_one():
    # thirteen rows in the step, and this one is where the ring begins at another rank: alone it does not
    op = "0.down_proj"
    every = done(f"all_reduce_by_size:op={op},rows=10", op, 1, together(op, "b", 5))
    ((repeats, batches),) = every[0]
    assert (repeats.distinct, batches.alone) == (1, False)
    assert every == every[:1] * RANKS


def test_a_row_that_was_not_run_was_run_by_no_rank():
    op = "0.down_proj"
    assert done(f"all_reduce_by_size:op={op}", op, 0, together(op, "a", 60)) == [[None]] * RANKS


def test_one_rank_alone_repeats_what_only_it_does_otherwise():
    op, fault = "1.o_partial", "racing_matmul:step=0,op=1.o_partial,rank=2"
    jobs = [Company(op, "a", 3, rank, together=False) for rank in (1, 2)]
    every = done(fault, op, 0, *jobs)
    (steady, _), (racing, _) = every[0]
    assert steady.distinct == 1
    assert racing.distinct > 1
    assert every == every[:1] * RANKS


def test_what_another_rank_captured_comes_as_it_was_and_its_op_stays_there():
    op = "1.qkv"
    every = done("", op, 0, Fetched(op, (0, 3)), Seen())
    moments, seen = every[0]
    assert list(moments) == [0, 3]
    place = moments[3].places[5]
    prints = [[rank[op][place] for rank in seen]]
    # both hold a share of one row, and that of rank 3 is no other's
    assert [print_of(moments[rank].output, 5, moments[rank].share) for rank in (0, 3)] == prints[0][::3]
    assert moments[0].output.tobytes() != moments[3].output.tobytes()
    assert summed(np.array(prints, np.uint64)) != 0
    with pytest.raises(AssertionError, match=r"1\.qkv of another rank is run by that rank"):
        moments[3].op(op, *moments[3].args)


def test_an_op_runs_on_other_arguments_where_it_is():
    op, rank = "1.o_partial", 3
    moment = done("", op, 0, Fetched(op, (rank,)))[0][0][rank]
    x, weight, bias = moment.args
    jobs = [Outcomes(op, {rank: args}) for args in ((OWN, OWN, OWN), (x, weight, bias), (2 * x, OWN, OWN))]
    own, sent, twice = (found[rank] for found in done("", op, 0, *jobs)[0])
    assert own.tobytes() == sent.tobytes() == moment.output.tobytes()
    # to double is exact
    assert twice.tobytes() == (2 * moment.output).tobytes()


def test_each_rank_wrote_its_own_kv():
    every = done("", "1.kv_write", 0, Written(0), Written(2), Written(3))
    first, second, third = every[0]
    assert first.keys() == second.keys() == {("a", position) for position in range(16)}
    assert all(len(prints) == 1 for prints in second.values())
    # four ranks and two KV heads: neighbours hold one
    assert first != second == third

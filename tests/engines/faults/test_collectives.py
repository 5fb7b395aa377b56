"""Sums over ranks that go wrong: while every rank's partial sum is right, and where the fault tells."""

import re

import numpy as np
import pytest

from detrec.engines.faults import FAULTS, arm, check_ranks
from detrec.errors import ConfigError
from tests.engines.faults.broken import Broken, assert_seen, broken
from tests.engines.rank_threads import told_by_ranks
from tests.engines.small import Told, prompt, request

RANKS = 4
REQUESTS = [request("a", prompt(1, 20), max_tokens=5), request("b", prompt(2, 9), 1, max_tokens=5)]
ENGINE = {"max_num_batched_tokens": 16}
RING = f"cpu.all_reduce ring of {RANKS}"


def in_ranks(fault: str, **engine: object) -> tuple[Broken, list[Told], list[Told]]:
    """A run beside the same run with the fault in all ranks: as rank 0 sees it, and as all do."""
    notices: list[str] = []
    right = told_by_ranks(RANKS, REQUESTS, **ENGINE, **engine)
    forced = {r["id"]: [s.taken for s in right[0].samples if s.request == r["id"]] for r in REQUESTS}
    wrong = told_by_ranks(
        *(RANKS, REQUESTS), fault=fault, notify=notices.append, plan=right[0].steps, forced=forced,
        **ENGINE, **engine,
    )  # fmt: skip
    return Broken(notices, right[0], wrong[0]), right, wrong


def output(told: Told, step: int, name: str) -> np.ndarray:
    (found,) = (output for op, output, _ in told.ops[step] if op == name)
    return found


@pytest.mark.parametrize("reduction", ["ranks", "tp_invariant"])
@pytest.mark.parametrize(
    ("fault", "step", "op"),
    [
        ("allreduce_arrival_order:step=2,op=1.o_proj", 2, "1.o_proj"),
        ("allreduce_arrival_order:step=0,op=3.down_proj", 0, "3.down_proj"),
        ("all_reduce_by_size:step=0,op=0.down_proj", 0, "0.down_proj"),
        ("all_reduce_by_size:step=1,op=2.o_proj,rows=5", 1, "2.o_proj"),
    ],
)
def test_the_sum_is_wrong_where_it_says_and_every_partial_sum_is_right(fault, step, op, reduction):
    run, right, wrong = in_ranks(fault, reduction=reduction)
    first = assert_seen(run, fault.partition(":")[0])
    assert (first.step, first.name) == (step, op)
    partial = op.replace("_proj", "_partial")
    for before, after in zip(right, wrong, strict=True):
        assert output(before, step, partial).tobytes() == output(after, step, partial).tobytes()
        # ranks go on with one sum
        assert output(after, step, op).tobytes() == output(wrong[0], step, op).tobytes()


def test_ranks_that_arrive_by_chance_give_several_sums():
    outputs = set()
    for _ in range(6):
        run, _, _ = in_ranks("allreduce_arrival_order:step=0,op=0.o_proj")
        outputs.add(run.output(run.wrong, 0, "0.o_proj").tobytes())
        assert {kernel for _, kernel in run.kernels("0.o_proj")} == {f"cpu.all_reduce ranks of {RANKS}"}
    assert len(outputs) > 1


def test_a_ring_is_for_long_messages_and_has_a_name():
    run, _, _ = in_ranks("all_reduce_by_size:op=0.o_proj,rows=9")
    kernels = dict(run.kernels("0.o_proj"))
    rows = {step.index: step.rows for step in run.wrong.steps}
    assert {step for step, kernel in kernels.items() if kernel == RING} == {s for s in rows if rows[s] >= 9}
    assert RING in kernels.values()
    assert f"cpu.all_reduce ranks of {RANKS}" in kernels.values()


def test_three_kernels_change_by_one_threshold_and_all_three_are_told():
    run, _, _ = in_ranks("thresholds_at_once:step=0,layer=1")
    first = run.first()
    assert first is not None
    assert first.name == "1.attn"
    assert run.notices[0] == f"fault thresholds_at_once: first bit changed at {first}"
    assert [re.findall(r"op (\w+)$", text)[0] for text in run.notices] == ["attn", "gate_up", "down_proj"]
    assert RING in dict(run.kernels("1.down_proj")).values()


@pytest.mark.parametrize("ranks", [2, 4])
def test_one_rank_can_sum_as_several_would(ranks):
    run = broken(f"ranks_of_replay:ranks={ranks}", REQUESTS, follow=True, **ENGINE)
    assert assert_seen(run, "ranks_of_replay").name == "0.o_proj"
    several = told_by_ranks(ranks, REQUESTS, **ENGINE)[0]
    assert run.output(run.wrong, 0, "0.o_proj").tobytes() == output(several, 0, "0.o_proj").tobytes()
    assert {kernel for _, kernel in run.kernels("3.down_proj")} == {f"cpu.all_reduce ranks of {ranks}"}


@pytest.mark.parametrize(
    ("fault", "size", "message", "hint"),
    [
        ("seed_drift", 2, "acts on one rank, got engine.tensor_parallel_size: 2", "size=1"),
        ("allreduce_arrival_order", 2, "needs 3 ranks or more, got engine.tensor_parallel_size: 2", "size=4"),
        ("thresholds_at_once", 1, "needs 3 ranks or more, got engine.tensor_parallel_size: 1", "size=4"),
    ],
)
def test_a_fault_is_refused_where_its_ranks_are_not(fault, size, message, hint):
    with pytest.raises(ConfigError, match=f"--fault {fault}: {message}") as refused:
        check_ranks(arm(fault, ("0.attn", "1.o_proj"), print), size)
    assert refused.value.hint == f"--set engine.tensor_parallel_{hint}"


def test_every_fault_of_one_rank_may_be_had_on_one():
    for fault in FAULTS.values():
        assert fault.least_ranks in (0, 3)

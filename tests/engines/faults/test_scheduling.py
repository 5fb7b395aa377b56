"""A chunk as long as the budget allows, and what was generated computed again by another order."""

import pytest

from detrec.engines.base import EventKind
from tests.engines.faults.again import changed
from tests.engines.faults.broken import assert_seen, broken
from tests.engines.small import prompt, request

LONG = [
    request("a", prompt(1, 60), max_tokens=4),
    request("b", prompt(2, 40), 1, max_tokens=4),
    request("c", prompt(3, 45), 2, max_tokens=4),
]
CHUNKED = {"max_num_batched_tokens": 37, "split_kv_size": 16}

TIGHT = {"block_size": 8, "num_gpu_blocks_override": 9, "max_num_batched_tokens": 64, "split_kv_size": 8}
PREEMPTED = [
    request("a", prompt(1, 20), max_tokens=24),
    request("b", prompt(2, 18), max_tokens=24),
    request("c", prompt(3, 9), max_tokens=20),
]


@pytest.mark.parametrize(("step", "cut"), [(0, (0, "a", 37)), (1, (1, "b", 9)), (2, (2, "c", 4))])
def test_a_chunk_takes_the_whole_budget_and_attention_shows_it_in_the_next(step, cut):
    run = broken(f"greedy_chunk:step={step}", LONG, **CHUNKED)
    first = assert_seen(run, "greedy_chunk")
    ends = [
        (each.index, part.request, part.stop)
        for each in run.wrong.steps
        for part in each.slices
        if not part.samples and part.stop % 16
    ]
    # a cut off the multiples, and none but that
    assert len(ends) == 1
    assert (first.request, first.position, first.name) == (*ends[0][1:], "0.attn")
    assert ends[0][0] == step
    assert run.wrong.steps[ends[0][0]].rows == 37
    assert {at for at, kernel in run.kernels("0.attn") if kernel.endswith("cut at the chunk")} == {first.step}
    # the schedule is another before any bit is
    differ = [a.index for a, b in zip(run.right.steps, run.wrong.steps, strict=False) if a.slices != b.slices]
    assert differ[0] == step < first.step


def test_a_plan_that_is_followed_was_cut_by_its_own_rule():
    run = broken("greedy_chunk", LONG, follow=True, **CHUNKED)
    assert run.notices == ["fault greedy_chunk: changed no bit in this run"]
    assert run.first() is None


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize("op", ["0.attn", "1.attn", "3.attn"])
def test_only_what_is_computed_again_after_a_preemption_is_computed_otherwise(op, follow):
    run = broken(f"resume_by_prefill:op={op}", PREEMPTED, follow=follow, **TIGHT)
    preempted = {
        event.request: step.index
        for step in run.wrong.steps
        for event in step.events
        if event.kind == EventKind.PREEMPTED
    }
    assert preempted
    first = assert_seen(run, "resume_by_prefill")
    assert first.name == op
    assert first.step >= preempted[first.request]
    lengths = {"a": 20, "b": 18, "c": 9}
    if follow:
        touched = changed(run)
        assert {name for name, _ in touched} <= preempted.keys()
        assert all(position >= lengths[name] for name, position in touched)
    kernels = {at for at, kernel in run.kernels(op) if kernel.endswith("cut at the prompt's end")}
    assert first.step in kernels
    assert min(kernels) >= min(preempted.values())


def test_without_a_preemption_nothing_changes_and_that_is_told():
    run = broken("resume_by_prefill", PREEMPTED, **{**TIGHT, "num_gpu_blocks_override": 40})
    assert run.notices == ["fault resume_by_prefill: changed no bit in this run"]
    assert run.first() is None

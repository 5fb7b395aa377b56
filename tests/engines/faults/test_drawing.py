"""Draws with somebody else's seed or the engine's clock; logprobs by another sampler, or by none."""

import numpy as np
import pytest

from tests.engines.faults.again import changed, outputs
from tests.engines.faults.broken import assert_seen, broken
from tests.engines.small import prompt, request

DRAWN = {"temperature": 1.0, "ignore_eos": True, "max_tokens": 8}
REQUESTS = [
    request("first", prompt(1, 5), seed=7, **DRAWN),
    request("greedy", prompt(2, 5), max_tokens=8),
    request("cut", prompt(3, 5), 1, seed=11, top_p=0.9, **DRAWN),
    request("late", prompt(4, 5), 3, seed=13, **DRAWN),
]
SAMPLE = "cpu.sample gumbel splitmix64 weights=2^-32 u=2^-23"


@pytest.mark.parametrize(("step", "place"), [(0, (1, "cut", 4)), (2, (2, "cut", 5)), (5, (5, "cut", 8))])
def test_every_row_is_drawn_with_the_first_rows_seed(step, place):
    run = broken(f"row0_seed:step={step}", REQUESTS, follow=True)
    first = assert_seen(run, "row0_seed")
    assert (first.step, first.request, first.position, first.name) == (*place, "sampled")
    # the first row's is its own, and greedy rows have none
    assert {name for name, _ in changed(run)} <= {"cut", "late"}
    assert changed(run) == changed(run, "sampled")
    own = {"first": 7, "greedy": 42, "cut": 11, "late": 13}
    drawn = iter(run.wrong.samples)
    for each in run.wrong.steps:
        names = [part.request for part in each.slices if part.samples]
        for name in names:
            seed = 0 if name == "greedy" else own[names[0] if each.index >= step else name]
            assert next(drawn).seed == seed
    assert {kernel for _, kernel in run.kernels("sampled")} == {SAMPLE}
    assert len(set(outputs(f"row0_seed:step={step}", REQUESTS, "sample", place[0]))) == 1


@pytest.mark.parametrize(("step", "by"), [(0, 1), (2, 4), (6, 1000)])
def test_only_draws_with_top_p_follow_the_engines_clock(step, by):
    run = broken(f"offset_drift:step={step},by={by}", REQUESTS, follow=True)
    first = assert_seen(run, "offset_drift")
    assert (first.step, first.request, first.name) == (max(step, 1), "cut", "sampled")
    assert {name for name, _ in changed(run)} == {"cut"}
    for sample in run.wrong.samples:
        at = sample.position - 4 + 1
        drift = max(at - step + 1, 0) * by if sample.request == "cut" else 0
        assert sample.counter in (0, sample.position + drift)


@pytest.mark.parametrize(("step", "rows", "at"), [(0, 2, 0), (2, 3, 2), (0, 4, 3)])
def test_logprobs_are_summed_otherwise_when_enough_rows_are_drawn(step, rows, at):
    run = broken(f"sampler_by_batch:step={step},rows={rows}", REQUESTS, follow=True)
    first = assert_seen(run, "sampler_by_batch")
    assert first.name == "logprobs"
    assert first.step >= at
    assert not changed(run, "logits_penalised")
    kernels = {step: kernel.partition(" ")[0] for step, kernel in run.kernels("logprobs")}
    large = {each.index for each in run.wrong.steps if each.index >= step and len(each.sample_rows) >= rows}
    assert large
    assert {step for step, kernel in kernels.items() if kernel == "cpu.chain_log_softmax"} == large
    # logprobs of smaller steps are right
    assert all(not changed(run, "logprobs", step) for step in kernels.keys() - large)
    assert len(set(outputs(f"sampler_by_batch:rows={rows}", REQUESTS, "log_softmax", first.step))) == 1


@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        pytest.param("", (3, "first", 7), id="the first row"),
        pytest.param(":step=2,request=cut", (2, "cut", 5), id="a named one"),
        pytest.param(":step=1,request=late", (4, "late", 5), id="as soon as there is something left"),
    ],
)
def test_logprobs_that_are_not_written_are_those_of_the_step_before(parameters, place):
    run = broken(f"stale_logprobs{parameters}", REQUESTS, follow=True)
    first = assert_seen(run, "stale_logprobs")
    assert (first.step, first.request, first.position, first.name) == (*place, "logprobs")
    assert changed(run, "logprobs") == {place[1:]}
    assert not changed(run, "logits_penalised")
    at = [part.request for part in run.wrong.steps[place[0]].slices if part.samples].index(place[1])
    stale, before = (run.output(run.wrong, step, "logprobs")[at] for step in (place[0], place[0] - 1))
    assert stale.tobytes() == before.tobytes()
    # run again, it is left out again
    gave = set(outputs(f"stale_logprobs{parameters}", REQUESTS, "log_softmax", place[0]))
    assert gave == {run.output(run.wrong, place[0], "logprobs").tobytes()}
    assert np.isfinite(stale).all()


@pytest.mark.parametrize("fault", ["row0_seed", "offset_drift", "sampler_by_batch", "stale_logprobs"])
def test_a_step_that_never_comes_changes_nothing_and_is_told(fault):
    run = broken(f"{fault}:step=99", REQUESTS)
    assert run.notices == [f"fault {fault}: changed no bit in this run"]
    assert run.first() is None

"""seed_drift: the seeds of every draw grow with the steps of the engine, and nothing else changes."""

import pytest

from tests.engines.faults.broken import assert_seen, broken
from tests.engines.small import prompt, request

DRAWN = {"temperature": 1.0, "ignore_eos": True, "max_tokens": 8}
REQUESTS = [
    request("drawn", prompt(1, 5), seed=7, **DRAWN),
    request("greedy", prompt(2, 5), max_tokens=8),
    request("late", prompt(3, 5), 2, seed=922337203685477580, **DRAWN),
]


@pytest.mark.parametrize(("step", "by"), [(0, 1), (3, 4), (5, 1000)])
def test_a_seed_grows_by_so_much_a_step(step, by):
    run = broken(f"seed_drift:step={step},by={by}", REQUESTS, follow=True)
    first = assert_seen(run, "seed_drift")
    assert (first.step, first.request, first.name) == (step, "drawn", "sampled")
    index = {
        (part.request, part.stop - 1): each.index
        for each in run.wrong.steps
        for part in each.slices
        if part.samples
    }
    seeds = {"drawn": 7, "greedy": 0, "late": 922337203685477580}
    for sample in run.wrong.samples:
        drift = max(index[sample.request, sample.position] - step + 1, 0) * by
        expected = seeds[sample.request] + (drift if sample.request != "greedy" else 0)
        assert (sample.request, sample.seed) == (sample.request, expected)
    assert {kernel for at, kernel in run.kernels("sampled") if at >= step} == {"sample with a drifting seed"}
    assert all(kernel != "sample with a drifting seed" for at, kernel in run.kernels("sampled") if at < step)


def test_other_tokens_are_drawn_when_nothing_forces_them():
    run = broken("seed_drift:step=2", REQUESTS)
    assert assert_seen(run, "seed_drift").name == "sampled"
    tokens = [
        {name: [s.taken for s in side.samples if s.request == name] for name in ("drawn", "greedy", "late")}
        for side in (run.right, run.wrong)
    ]
    assert tokens[0]["greedy"] == tokens[1]["greedy"]
    assert tokens[0]["drawn"][:2] == tokens[1]["drawn"][:2]
    assert tokens[0]["drawn"] != tokens[1]["drawn"]
    assert tokens[0]["late"] != tokens[1]["late"]


def test_greedy_draws_have_no_seed_that_could_drift():
    run = broken("seed_drift:step=0", [request("greedy", prompt(2, 5))])
    assert run.notices == ["fault seed_drift: changed no bit in this run"]
    assert run.first() is None

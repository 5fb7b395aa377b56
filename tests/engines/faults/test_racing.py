"""Races of the sampler: seen where they can act, only there, and otherwise every time."""

import numpy as np
import pytest

from detrec.config import SamplingParams
from detrec.engines.base import Request
from detrec.engines.builtin.batch import penalties_of
from detrec.engines.builtin.state import RequestState
from detrec.engines.faults.racing import unfenced
from tests.engines.faults.again import changed, outputs
from tests.engines.faults.broken import assert_seen, broken
from tests.engines.small import prompt, request, started

DRAWN = {"temperature": 1.0, "ignore_eos": True, "max_tokens": 8}
REQUESTS = [
    request("plain", prompt(1, 5), seed=7, **DRAWN),
    request("cut", prompt(2, 5), 1, seed=11, top_p=0.9, **DRAWN),
    request("penalised", prompt(3, 24), 1, repetition_penalty=1.3, presence_penalty=0.5, max_tokens=8),
]


def test_a_reader_that_does_not_wait_finds_a_part_of_what_is_written():
    source = np.arange(1, 201)
    found = [unfenced(source) for _ in range(12)]
    assert all(
        np.isin(part, (0, whole)).all() for each in found for part, whole in zip(each, source, strict=True)
    )
    assert len({each.tobytes() for each in found}) > 1


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize("step", [1, 3, 6])
def test_penalties_race_with_the_counts_they_read(step, follow):
    run = broken(f"penalty_race:step={step}", REQUESTS, follow=follow)
    first = assert_seen(run, "penalty_race")
    assert (first.step, first.request, first.name) == (step, "penalised", "logits_penalised")
    assert {name for name, _ in changed(run, "logits_penalised", step)} == {"penalised"}
    if follow:
        assert {name for name, _ in changed(run)} == {"penalised"}
        assert not changed(run, "logits")
    assert {kernel for _, kernel in run.kernels("logits_penalised")} == {
        "cpu.penalise repetition,frequency,presence,ban float32"
    }


def test_penalties_that_race_are_not_the_same_again():
    assert len(set(outputs("penalty_race:step=2", REQUESTS, "penalise", 2))) > 1
    assert len(set(outputs("penalty_race:step=3", REQUESTS, "penalise", 2))) == 1


@pytest.mark.parametrize("step", [1, 3, 5])
def test_top_p_races_with_the_sum_it_cuts_by(step):
    run = broken(f"renorm_race:step={step}", REQUESTS, follow=True)
    first = assert_seen(run, "renorm_race")
    assert first.step >= step
    assert (first.request, first.name) == ("cut", "sampled")
    assert {name for name, _ in changed(run)} == {"cut"}
    assert changed(run) == changed(run, "sampled")
    right = {(s.request, s.position): s for s in run.right.samples}
    for sample in run.wrong.samples:
        other = right[sample.request, sample.position]
        assert (sample.seed, sample.counter) == (other.seed, other.counter)


def test_a_draw_that_races_is_not_the_same_again():
    run = broken("renorm_race:step=1", REQUESTS, follow=True)
    first = assert_seen(run, "renorm_race")
    gave = outputs("renorm_race:step=1", REQUESTS, "sample", first.step, times=24)
    assert len(set(gave)) > 1


def test_an_op_that_is_run_again_tells_nothing():
    told: list[str] = []
    engine = started(REQUESTS[:1], start={"fault": "penalty_race", "notify": told.append})
    next(engine.run(engine.own_scheduler()))
    state = RequestState(Request("other", tuple(range(40)), SamplingParams(repetition_penalty=1.3)))
    logits = np.full((1, 512), 2, np.float32)
    penalties = penalties_of([state], [])
    again = {engine.ops.penalise("logits_penalised", logits, penalties).tobytes() for _ in range(12)}
    assert len(again) > 1
    assert not [text for text in told if text.startswith("fault ")]


@pytest.mark.parametrize("fault", ["penalty_race", "renorm_race"])
def test_without_penalties_or_top_p_nothing_races_and_that_is_told(fault):
    run = broken(fault, REQUESTS[:1])
    assert run.notices == [f"fault {fault}: changed no bit in this run"]
    assert run.first() is None

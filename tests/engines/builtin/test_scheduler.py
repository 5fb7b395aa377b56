"""The engine's own policy, driven without a model: tokens come from the test."""

import random

import pytest

from detrec.config import EngineConfig, SamplingParams
from detrec.engines.base import EventKind, Kind, Request, Step
from detrec.engines.builtin.blocks import BlockManager
from detrec.engines.builtin.follow import FollowingScheduler
from detrec.engines.builtin.scheduler import FcfsScheduler, chunk_rule
from detrec.engines.builtin.state import RequestState
from detrec.errors import ReplayError


class Bench:
    """Requests, blocks and a scheduler; `run` plays the engine, sampling token 7 every time."""

    def __init__(self, requests: list[Request], blocks: int = 64, plan=None, **engine):
        self.config = EngineConfig(
            **{"max_num_batched_tokens": 32, "max_num_seqs": 4, "block_size": 4, **engine}
        )
        self.states = {request.id: RequestState(request) for request in requests}
        caching = self.config.enable_prefix_caching
        self.blocks = BlockManager(blocks, self.config.block_size, prefix_caching=caching)
        if plan is None:
            rule = chunk_rule(self.config)
            self.scheduler = FcfsScheduler(self.config, self.states, self.blocks, rule)
        else:
            self.scheduler = FollowingScheduler(Plan(plan), self.states, self.blocks)

    def run(self) -> list[Step]:
        steps = []
        while (step := self.scheduler.next_step()) is not None:
            steps.append(step)
            for part in step.slices:
                state = self.states[part.request]
                assert part.start == state.computed
                assert len(self.blocks.tables[part.request]) == self.blocks.blocks_for(part.stop)
                state.computed = part.stop
                if part.samples:
                    state.tokens.append(7)
                    if len(state.output) == state.request.sampling.max_tokens:
                        state.finish = "length"
                self.blocks.publish(part.request, state.tokens, state.computed)
                if state.finish:
                    self.blocks.release(part.request)
            assert len(steps) < 5000
        assert all(state.finish for state in self.states.values())
        assert self.blocks.free == self.blocks.num_blocks
        return steps


class Plan:
    def __init__(self, steps):
        self.steps = iter(steps)

    def next_step(self):
        return next(self.steps, None)


def request(name: str, prompt: int, output: int = 3, arrival: int = 0, first: int = 1) -> Request:
    sampling = SamplingParams(max_tokens=output, seed=1)
    return Request(name, tuple(range(first, first + prompt)), sampling, arrival)


def spans(step: Step) -> list[tuple[str, int, int]]:
    return [(part.request, part.start, part.stop) for part in step.slices]


def test_prefills_and_decodes_share_steps():
    steps = Bench([request("a", 8), request("b", 40, arrival=1, first=100)]).run()
    assert spans(steps[0]) == [("a", 0, 8)]
    assert spans(steps[1]) == [("a", 8, 9), ("b", 0, 16)]
    assert [part.kind for part in steps[1].slices] == [Kind.DECODE, Kind.PREFILL]
    assert spans(steps[2]) == [("a", 9, 10), ("b", 16, 32)]
    assert [part.samples for part in steps[2].slices] == [True, False]


def test_a_deferred_prompt_is_not_overtaken():
    # after `a` took 20 of 32 tokens, `b` has no boundary in reach and `c`, which would fit, waits behind it
    steps = Bench([request("a", 20), request("b", 20, first=50), request("c", 2, first=90)]).run()
    assert spans(steps[0]) == [("a", 0, 20)]
    assert spans(steps[1]) == [("a", 20, 21), ("b", 0, 16), ("c", 0, 2)]
    assert spans(steps[2]) == [("a", 21, 22), ("c", 2, 3), ("b", 16, 20)]


def test_a_second_run_with_the_same_prompt_hits_the_cache():
    steps = Bench([request("a", 20), request("b", 20, arrival=5)]).run()
    hits = [event for step in steps for event in step.events if event.kind == EventKind.HIT]
    assert [(event.request, event.tokens) for event in hits] == [("b", 16)]


def test_whoever_came_last_is_preempted_and_comes_back():
    steps = Bench([request("a", 8, 20), request("b", 8, 20, first=50)], blocks=8).run()
    lost = [event for step in steps for event in step.events if event.kind == EventKind.PREEMPTED]
    assert lost
    assert {event.request for event in lost} == {"b"}
    again = [part for step in steps for part in step.slices if part.request == "b" and part.start < 8]
    assert again[-1].kind == Kind.PREFILL


def test_an_idle_engine_does_not_wait_for_the_clock():
    steps = Bench([request("a", 4, 1), request("b", 4, 1, arrival=100, first=50)]).run()
    assert [spans(step) for step in steps] == [[("a", 0, 4)], [("b", 0, 4)]]


def test_ties_are_broken_by_request_id():
    steps = Bench([request("b", 4), request("a", 4, first=50)]).run()
    assert [name for name, _, _ in spans(steps[0])] == ["a", "b"]


def test_without_chunking_no_prompt_is_cut():
    requests = [request("a", 30), request("b", 30, first=50), request("c", 60, first=200)]
    steps = Bench(requests, enable_chunked_prefill=False, max_num_batched_tokens=40).run()
    assert spans(steps[0]) == [("a", 0, 30)]
    assert ("c", 0, 60) in [span for step in steps for span in spans(step)]


def workload(seed: int) -> list[Request]:
    generator = random.Random(seed)
    return [
        request(
            f"r{index}",
            generator.randint(1, 40),
            generator.randint(1, 12),
            arrival=generator.randint(0, 12),
            first=generator.choice([1, 1, 50]),
        )
        for index in range(8)
    ]


@pytest.mark.parametrize("seed", range(40))
def test_any_workload_ends_and_can_be_followed(seed):
    generator = random.Random(seed)
    engine = {
        "max_num_seqs": generator.choice([1, 3, 8]),
        "max_num_batched_tokens": generator.choice([16, 24, 64]),
        "enable_prefix_caching": generator.random() < 0.7,
        "enable_chunked_prefill": generator.random() < 0.8,
    }
    blocks = generator.choice([14, 20, 64])
    steps = Bench(workload(seed), blocks, **engine).run()
    aligned = engine["enable_chunked_prefill"]
    for part in (part for step in steps for part in step.slices):
        assert not aligned or part.samples or part.stop % 16 == 0
    assert Bench(workload(seed), blocks, plan=steps, **engine).run() == steps


def test_a_plan_that_cannot_be_followed_is_refused():
    requests = [request("a", 20), request("b", 20, arrival=5)]
    steps = Bench(requests).run()
    with pytest.raises(ReplayError, match="prefix-cache hit of 16 tokens, here 0 are cached"):
        Bench(requests, plan=steps, enable_prefix_caching=False).run()
    with pytest.raises(ReplayError, match="more KV blocks"):
        Bench(requests, blocks=3, plan=steps).run()
    with pytest.raises(ReplayError, match="does not start where this run stands"):
        Bench(requests, plan=steps[1:]).run()

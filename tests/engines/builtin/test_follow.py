"""Somebody else's decisions are taken as they are, or refused by name; none is repaired."""

import pytest

from detrec.config import SamplingParams
from detrec.engines.base import Event, EventKind, Kind, Request, Slice, Step
from detrec.engines.builtin.blocks import BlockManager
from detrec.engines.builtin.follow import FollowingScheduler
from detrec.engines.builtin.state import RequestState
from detrec.errors import ReplayError
from tests.engines.small import Plan

BLOCK = 4


class Follower:
    """Requests `a` and `b` of eight tokens each, on `blocks` blocks of four positions."""

    def __init__(self, *steps: Step, blocks: int = 8, caching: bool = True) -> None:
        self.states = {
            name: RequestState(Request(name, tuple(range(8)), SamplingParams(seed=1))) for name in "ab"
        }
        self.blocks = BlockManager(blocks, BLOCK, prefix_caching=caching)
        self.scheduler = FollowingScheduler(Plan(list(steps)), self.states, self.blocks)

    def follow(self) -> list[Step]:
        """Place every step as the engine would run it, drawing no token."""
        placed = []
        while (step := self.scheduler.next_step()) is not None:
            placed.append(step)
            for part in step.slices:
                state = self.states[part.request]
                state.computed = part.stop
                self.blocks.publish(part.request, state.tokens, part.stop)
        return placed

    def refusal(self) -> str:
        with pytest.raises(ReplayError) as refused:
            self.follow()
        assert (
            refused.value.hint == "replay with --mode tokens or --mode free, which let the scheduler decide"
        )
        return str(refused.value)


def part(request: str, start: int, stop: int) -> Slice:
    return Slice(request, start, stop, Kind.PREFILL, stop == 8, first_block=77)


def hit(request: str, tokens: int) -> Event:
    return Event(EventKind.HIT, request, tokens)


def test_steps_are_followed_and_only_the_physical_block_is_this_engines_own():
    steps = [Step(3, (part("b", 0, 4),)), Step(7, (part("b", 4, 8), part("a", 0, 8)))]
    follower = Follower(*steps)
    first, second = follower.follow()
    assert (first.index, second.index) == (3, 7)
    assert first.slices == (Slice("b", 0, 4, Kind.PREFILL, False, 0),)
    assert second.slices == (Slice("b", 4, 8, Kind.PREFILL, True, 1), Slice("a", 0, 8, Kind.PREFILL, True, 2))
    assert follower.scheduler.next_step() is None


def test_a_hit_takes_the_cached_blocks_and_may_take_fewer_than_there_are():
    follower = Follower(Step(0, (part("a", 0, 8),)), Step(1, (part("b", 4, 8),), (hit("b", 4),)))
    _, second = follower.follow()
    assert second.events == (hit("b", 4),)
    assert follower.blocks.tables["b"][0] == follower.blocks.tables["a"][0]


def test_a_preemption_frees_blocks_before_the_steps_own_slices_take_them():
    lost = Event(EventKind.PREEMPTED, "b", 8)
    steps = [Step(0, (part("b", 0, 8),)), Step(1, (part("a", 0, 8),), (lost,)), Step(2, (), (lost,))]
    follower = Follower(*steps, blocks=2)
    follower.follow()
    assert (follower.states["b"].computed, follower.blocks.free) == (0, 0)


REFUSED = [
    pytest.param(
        [Step(2, (part("c", 0, 4),))],
        {},
        "step 2: the plan names request 'c', which the trace does not have",
        id="a request nobody knows",
    ),
    pytest.param(
        [Step(2, (part("a", 0, 4),), (Event(EventKind.PREEMPTED, "c", 4),))],
        {},
        "step 2: the plan names request 'c', which the trace does not have",
        id="an event of a request nobody knows",
    ),
    pytest.param(
        [Step(0, (part("a", 0, 4),)), Step(1, (part("a", 5, 8),))],
        {},
        "step 1: request a: recorded slice [5, 8) does not start where this run stands, at 4",
        id="a gap",
    ),
    pytest.param(
        [Step(0, (part("a", 0, 4),)), Step(1, (part("a", 3, 8),))],
        {},
        "step 1: request a: recorded slice [3, 8) does not start where this run stands, at 4",
        id="an overlap",
    ),
    pytest.param(
        [Step(0, (part("a", 0, 9),))],
        {},
        "step 0: request a: recorded slice [0, 9) runs past the 8 tokens known here",
        id="tokens that were never drawn",
    ),
    pytest.param(
        [Step(0, (part("a", 0, 8),))],
        {"blocks": 1},
        "step 0: request a: recorded slice [0, 8) needs more KV blocks than the 1 left here",
        id="no room to begin",
    ),
    pytest.param(
        [Step(0, (part("a", 0, 4), part("b", 0, 4))), Step(1, (part("a", 4, 8),))],
        {"blocks": 2},
        "step 1: request a: recorded slice [4, 8) needs more KV blocks than the 0 left here",
        id="no room to grow",
    ),
    pytest.param(
        [Step(0, (part("a", 0, 4),)), Step(1, (part("b", 4, 8),), (hit("b", 4),))],
        {"caching": False},
        "step 1: request b: recorded a prefix-cache hit of 4 tokens, here 0 are cached, in blocks of 4",
        id="no cache",
    ),
    pytest.param(
        [Step(0, (part("a", 0, 3),)), Step(1, (part("b", 4, 8),), (hit("b", 4),))],
        {},
        "step 1: request b: recorded a prefix-cache hit of 4 tokens, here 0 are cached, in blocks of 4",
        id="a block that is not full",
    ),
    pytest.param(
        [Step(0, (part("a", 0, 8),)), Step(1, (part("b", 2, 8),), (hit("b", 2),))],
        {},
        "step 1: request b: recorded a prefix-cache hit of 2 tokens, here 4 are cached, in blocks of 4",
        id="a hit on part of a block",
    ),
    # the last token is never served from the cache: its row is what the next is drawn from
    pytest.param(
        [Step(0, (part("a", 0, 8),)), Step(1, (), (hit("b", 8),))],
        {},
        "step 1: request b: recorded a prefix-cache hit of 8 tokens, here 4 are cached, in blocks of 4",
        id="a hit on the whole prompt",
    ),
]


@pytest.mark.parametrize(("steps", "engine", "message"), REFUSED)
def test_what_cannot_be_done_here_is_refused(steps, engine, message):
    assert Follower(*steps, **engine).refusal() == message

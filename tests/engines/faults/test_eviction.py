"""early_eviction: a block in use is given to somebody else, and its first owner reads what is not its own."""

import pytest

from detrec.engines.base import Kind, Slice, Step
from detrec.engines.builtin.blocks import BlockManager
from detrec.engines.faults.eviction import EarlyEviction
from tests.engines.faults.again import changed
from tests.engines.faults.broken import assert_seen, broken
from tests.engines.small import prompt, request

REQUESTS = [
    request("a", prompt(1, 40), max_tokens=12),
    request("b", prompt(2, 20), 1, max_tokens=14),
    request("c", prompt(3, 9), 2, max_tokens=10),
]
ENGINE = {"max_num_batched_tokens": 32, "block_size": 16}


@pytest.mark.parametrize("prefix_caching", [True, False])
@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        pytest.param("step=2", (2, "a", 40), id="the first"),
        pytest.param("step=3,request=b", (10, "b", 27), id="the second's"),
        pytest.param("step=5,request=c", (10, "c", 16), id="the third's"),
    ],
)
def test_the_owner_of_the_block_reads_what_another_wrote(parameters, place, prefix_caching):
    run = broken(
        f"early_eviction:{parameters}", REQUESTS, follow=True, **ENGINE, enable_prefix_caching=prefix_caching
    )
    first = assert_seen(run, "early_eviction")
    assert (first.step, first.request, first.position, first.name) == (*place, "0.attn")
    # who got the block reads what it wrote itself
    assert {name for name, _ in changed(run)} == {place[1]}
    assert not changed(run, "0.kv_write")


def test_its_own_scheduler_may_give_the_block_away_too():
    first = assert_seen(broken("early_eviction:step=2", REQUESTS, **ENGINE), "early_eviction")
    assert (first.step, first.request, first.name) == (2, "a", "0.attn")


def test_a_plan_with_a_hit_on_the_block_can_still_be_followed():
    """The block is found as what it was: that its KV is another's is the fault."""
    requests = [REQUESTS[0], REQUESTS[1], request("again", prompt(1, 40), 6, max_tokens=4)]
    run = broken("early_eviction:step=1", requests, follow=True, **ENGINE)
    assert any(event.request == "again" for step in run.right.steps for event in step.events)
    assert assert_seen(run, "early_eviction").request == "a"
    assert {name for name, _ in changed(run)} == {"a", "again"}


def test_a_block_that_holds_nothing_yet_is_not_taken():
    requests = [request(name, prompt(seed, 20), max_tokens=20) for seed, name in enumerate("ab")]
    first = assert_seen(
        broken("early_eviction:step=0", requests, max_num_batched_tokens=64), "early_eviction"
    )
    # at position 32 `a` is the first to need another block
    assert (first.step, first.request, first.name) == (13, "b", "0.attn")


def test_a_block_is_found_as_what_it_was_and_as_what_it_is_until_it_is_taken_again():
    fault = EarlyEviction(print, step=0)
    blocks = fault.blocks(BlockManager(3, 4, prefix_caching=True))
    ours, theirs = [1, 2, 3, 4, 5], [6, 7, 8, 9, 10]
    assert blocks.admit("a", ours, 0, 4)
    fault.step(Step(0, (Slice("a", 0, 4, Kind.PREFILL, False),)))
    blocks.publish("a", ours, 4)
    assert blocks.admit("b", theirs, 0, 4)
    blocks.publish("b", theirs, 4)
    assert list(blocks.tables["a"]) == list(blocks.tables["b"])
    assert (blocks.match(ours), blocks.match(theirs), blocks.free) == (4, 4, 2)
    blocks.release("a")
    assert blocks.free == 2
    blocks.release("b")
    assert blocks.free == 3
    assert blocks.admit("c", [11] * 12, 0, 12)
    assert (blocks.match(ours), blocks.match(theirs)) == (0, 0)


def test_whoever_is_alone_has_nobody_to_take_a_block_from():
    run = broken("early_eviction:step=1", REQUESTS[:1], **ENGINE)
    assert run.notices == ["fault early_eviction: changed no bit in this run"]
    assert run.first() is None

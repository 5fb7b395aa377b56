"""Faults of the KV cache: found where wrong KV is first read, though no op reported that it was written."""

import pytest

from detrec.errors import ConfigError
from tests.engines.faults.again import changed
from tests.engines.faults.broken import assert_seen, broken
from tests.engines.small import prompt, request

REQUESTS = [
    request("a", prompt(1, 40), max_tokens=12),
    request("b", prompt(2, 20), 1, max_tokens=12),
    request("c", prompt(3, 9), 2, max_tokens=12),
]
# blocks 0, 1 and 2 are those of `a`, 3 and 4 of `b`, 5 of `c`; of 8
ENGINE = {"max_num_batched_tokens": 32, "block_size": 16, "enable_prefix_caching": False}


def at_place(fault: str, place: tuple[int, str, int], op: str = "0.attn", touched: str = "", **engine):
    """The run of `fault`, which is seen at `place`, and moves bits of that request and `touched` alone."""
    run = broken(fault, REQUESTS, follow=True, **ENGINE, **engine)
    first = assert_seen(run, fault.partition(":")[0])
    assert (first.step, first.request, first.position, first.name) == (*place, op)
    assert {name for name, _ in changed(run)} == {place[1], *touched}
    assert run.kernels(op) == [
        (step.index, kernel)
        for step, ops in zip(run.right.steps, run.right.ops, strict=True)
        for name, _, kernel in ops
        if name == op
    ]
    return run


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        pytest.param("request=a", (1, "a", 32), id="a chunk"),
        pytest.param("step=2,request=b", (2, "b", 16), id="another request's"),
        pytest.param("step=2,request=a", (10, "a", 48), id="a decode"),
    ],
)
def test_a_wrong_block_is_read_at_a_boundary(parameters, place, dtype):
    run = at_place(f"wrong_block:{parameters}", place, dtype=dtype)
    assert not changed(run, "0.kv_write")
    assert {position for _, position in changed(run, "0.attn", place[0])} <= set(
        range(place[2], place[2] + 8)
    )


def test_every_request_at_a_boundary_reads_a_wrong_block():
    run = broken("wrong_block", REQUESTS, follow=True, **ENGINE)
    assert assert_seen(run, "wrong_block").step == 1
    assert {name for name, _ in changed(run)} == {"a", "b", "c"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        pytest.param("step=4,request=c", (4, "c", 10), id="a decode"),
        pytest.param("step=2,request=c", (2, "c", 8), id="the end of a prompt"),
        pytest.param("step=9,request=c", (9, "c", 15), id="the end of a block"),
    ],
)
def test_a_row_that_is_written_elsewhere_does_not_see_itself(parameters, place, dtype):
    run = at_place(f"misplaced_write:{parameters}", place, dtype=dtype)
    assert not changed(run, "0.kv_write")
    # and whoever comes after it does not see it either
    assert changed(run, "0.attn", place[0] + 1) == {(place[1], place[2] + 1)}


def test_a_misplaced_row_can_hit_a_neighbour():
    # position 42 of `a` is the eleventh slot of block 2: in block 3 that is position 10 of `b`
    run = at_place("misplaced_write:step=4", (4, "a", 42), touched="b")
    assert changed(run, "0.attn", 4) == {("a", 42), ("b", 21)}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("step", "slot", "place"),
    [
        pytest.param(3, 0, (3, "a", 41), id="the first of all"),
        pytest.param(5, 37, (5, "a", 43), id="inside a block"),
        pytest.param(4, 48, (4, "b", 21), id="another request's"),
    ],
)
def test_what_a_phantom_row_wrote_is_read_by_whoever_has_that_slot(step, slot, place, dtype):
    run = at_place(f"phantom_row:step={step},slot={slot}", place, dtype=dtype)
    assert not changed(run, "0.kv_write")
    assert changed(run, "0.attn", step) == {place[1:]}


def test_a_phantom_row_over_a_row_of_its_own_step_is_read_back():
    at_place("phantom_row:step=0,slot=3", (0, "a", 3), op="0.kv_write")


def test_a_phantom_row_in_nobodys_slot_changes_nothing_and_that_is_told():
    run = broken("phantom_row:step=3,slot=127", REQUESTS, follow=True, **ENGINE)
    assert run.notices == ["fault phantom_row: changed no bit in this run"]
    assert run.first() is None


def test_a_phantom_row_is_there_in_one_step_only():
    """Position 48 of `a` comes to that slot in step 10, and is written there before it is read."""
    run = broken("phantom_row:step=3,slot=96", REQUESTS, follow=True, **ENGINE)
    assert run.notices == ["fault phantom_row: changed no bit in this run"]


def test_a_slot_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"phantom_row: slot 128: the KV cache has 128 slots"):
        broken("phantom_row:step=1,slot=128", REQUESTS, **ENGINE)


@pytest.mark.parametrize("fault", ["wrong_block", "misplaced_write", "phantom_row", "early_eviction"])
def test_a_step_that_never_comes_changes_nothing_and_is_told(fault):
    run = broken(f"{fault}:step=99", REQUESTS, **ENGINE)
    assert run.notices == [f"fault {fault}: changed no bit in this run"]
    assert run.first() is None

"""Faults of attention: who is computed in another order, when, and by which kernel."""

import numpy as np
import pytest

from detrec.engines.base import Event, EventKind, Kind, Slice, Step
from detrec.engines.builtin.batch import Batch
from detrec.engines.faults.attention import parts_of
from detrec.engines.faults.attention_orders import HitOrder
from tests.engines.faults.broken import Broken, assert_seen, broken
from tests.engines.faults.rows import changed, ran
from tests.engines.small import prompt, request

# chunks beside decodes in steps 1 to 4 and 9, and `c` finds 48 tokens of `a` in the cache
ENGINE = {"max_num_batched_tokens": 32, "enable_prefix_caching": True}
RIGHT = "cpu.attention kv_block=64"


def requests(seed: int) -> list[dict]:
    a = prompt(seed, 60)
    return [
        request("a", a, max_tokens=9),
        request("b", prompt(seed + 1, 40), 1, max_tokens=8),
        request("c", a, 9, max_tokens=4),
    ]


def run_of(fault: str, seed: int = 1, **engine) -> Broken:
    return broken(fault, requests(seed), follow=True, **{**ENGINE, **engine})


def beside(part: Slice, step: Step) -> bool:
    return part.stop - part.start <= 8 < max(each.stop - each.start for each in step.slices)


def partial(part: Slice, step: Step) -> bool:
    return part.kind == Kind.PREFILL and (part.stop - part.start) % 16 != 0


def after_hit(part: Slice, step: Step) -> bool:
    return any(event.kind == EventKind.HIT and event.request == part.request for event in step.events)


# by fault: which slices it means, and what its kernel is called
MEANT = {
    "tile_by_longest": (beside, "cpu.attention_long_tile kv_block=32"),
    "attention_backend": (lambda part, step: True, "cpu.attention_whole softmax"),
    "tile_by_length": (lambda part, step: part.stop - part.start >= 8, "cpu.attention_tall_tile kv_block=16"),
    "split_kv_by_batch": (lambda part, step: 16 // step.rows > 1, "cpu.attention_split_kv parts="),
    "prefix_hit_order": (after_hit, "cpu.attention_cascade parts=hit,rest"),
    "partial_chunk_kernel": (partial, "cpu.attention_partial kv_block=32"),
}


@pytest.mark.parametrize(
    ("step", "layer", "seed"), [(0, 0, 1), (0, 0, 11), (2, 1, 1), (2, 1, 21), (4, 3, 11)]
)
@pytest.mark.parametrize("name", MEANT)
def test_the_first_bit_is_in_the_first_row_it_means(name, step, layer, seed):
    run = run_of(f"{name}:step={step},layer={layer}", seed)
    means, kernel = MEANT[name]
    first = assert_seen(run, name)
    assert first.name == f"{layer}.attn"
    acting = {
        each.index: [part for part in each.slices if means(part, each)]
        for each in run.wrong.steps
        if each.index >= step and any(means(part, each) for part in each.slices)
    }
    assert ran(run, f"{layer}.attn", kernel) == set(acting)
    assert first.step == min(acting)
    assert any(
        part.request == first.request and part.start <= first.position < part.stop
        for part in acting[first.step]
    )
    if layer:
        assert ran(run, f"{layer - 1}.attn", RIGHT) == {each.index for each in run.wrong.steps}


@pytest.mark.parametrize("name", MEANT)
def test_no_other_row_changes_in_the_layer_whose_inputs_stay_right(name):
    run = run_of(f"{name}:step=2")
    means, _ = MEANT[name]
    rows = changed(run, "0.attn")
    assert rows
    for step in run.wrong.steps:
        meant = {
            (part.request, p)
            for part in step.slices
            if step.index >= 2 and means(part, step)
            for p in range(part.start, part.stop)
        }
        assert rows.get(step.index, set()) <= meant


def test_a_prompt_shows_a_hit_at_the_first_token_that_was_not_cached():
    first = assert_seen(run_of("prefix_hit_order"), "prefix_hit_order")
    assert (first.step, first.request, first.position, first.name) == (9, "c", 48, "0.attn")


def test_the_parts_of_a_hit_meet_where_the_hit_ends_and_a_preemption_forgets_it():
    fault, none = HitOrder(print), np.empty(0, np.int64)
    part = Slice("c", 32, 36, Kind.PREFILL, False, first_block=2)
    positions = np.array([32, 33])
    batch = Batch(positions, positions, none, np.zeros(2, np.int32), np.array([[0, 1, 2]], np.int32), none)
    fault.step(Step(3, (part,), (Event(EventKind.HIT, "c", 32),)))
    order = fault.order(batch, 16)
    assert (order.rows.tolist(), order.starts.tolist()) == ([True, True], [[0, 32], [0, 32]])
    fault.step(Step(4, (part,)))
    assert fault.order(batch, 16).rows.all()
    fault.step(Step(5, (part,), (Event(EventKind.PREEMPTED, "c", 36),)))
    assert not fault.order(batch, 16).rows.any()


def test_without_a_hit_the_order_stays():
    run = run_of("prefix_hit_order", enable_prefix_caching=False)
    assert run.notices == ["fault prefix_hit_order: changed no bit in this run"]
    assert run.first() is None


def test_the_number_of_parts_is_told_and_follows_the_rows():
    run = run_of("split_kv_by_batch:step=5,splits=12")
    kernels = dict(run.kernels("0.attn"))
    for step in run.wrong.steps[5:]:
        parts = 12 // step.rows
        name = f"cpu.attention_split_kv parts={parts}" if parts > 1 else RIGHT + " online softmax"
        assert kernels[step.index] == name


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("tile_by_longest:tokens=999", id="no slice is longer"),
        pytest.param("tile_by_length:tokens=999", id="no slice is as long"),
        pytest.param("split_kv_by_batch:step=99", id="a step that never comes"),
        pytest.param("partial_chunk_kernel:tokens=1", id="every chunk is whole"),
    ],
)
def test_where_nobody_is_meant_nothing_changes_and_that_is_told(fault):
    run = run_of(fault)
    assert run.notices == [f"fault {fault.partition(':')[0]}: changed no bit in this run"]
    assert run.first() is None


def test_a_row_keeps_its_slice_in_any_batch():
    """An op run again on fewer rows, in another order, must take the path that it took in its step."""
    parts = (
        Slice("a", 20, 21, Kind.DECODE, True, first_block=7),
        Slice("b", 16, 24, Kind.PREFILL, False, first_block=3),
        Slice("c", 2, 3, Kind.DECODE, True, first_block=5),
    )
    tables = np.array([[1, 7], [2, 3], [5, 0]], np.int32)
    sequences, positions = np.array([1, 2, 0, 1], np.int32), np.array([20, 2, 20, 16])
    none = np.empty(0, np.int64)
    batch = Batch(positions, positions, none, sequences, tables, none)
    found = parts_of(Step(4, parts), batch, 16)
    assert [part.request for part in found if part] == ["b", "c", "a", "b"]
    # another run may have placed its KV elsewhere; whose row it is may then be told by its position alone
    moved = Batch(positions, positions, none, sequences, tables + 100, none)
    assert [part and part.request for part in parts_of(Step(4, parts), moved, 16)] == [None, "c", None, "b"]

"""The slots' own account of steps: chunks, decodes, preemptions, waits, hits and reordered batches."""

import pytest

from detrec.engines.base import Event, EventKind, Kind, Slice
from detrec.engines.fastdeploy.slots import Slots
from detrec.engines.fastdeploy.tasks import Task
from detrec.errors import EngineError


def prefill(request, slot, start, stop, known, blocks=(7, 8, 9), outputs=()):
    return Task("prefill", request, slot, blocks, start, stop, known, outputs)


class Turn:
    """Slots of blocks of four tokens, told and run step by step."""

    def __init__(self, slots=3):
        self.slots, self.count, self.width = Slots(4), 0, slots

    def __call__(self, *tasks, order=None, **lengths):
        """`s0=3` runs three tokens in row 0 of the batch."""
        for task in tasks:
            self.slots.insert(task)
        row = [lengths.get(f"s{slot}", 0) for slot in range(self.width)]
        now = self.slots.run(self.count, row, sum(row), order or {})
        self.count += now is not None
        return now


@pytest.fixture
def turn():
    return Turn()


def test_a_prompt_in_two_chunks_then_decodes(turn):
    first = turn(prefill("a", 1, 0, 4, 6), s1=4)
    assert first.step.slices == (Slice("a", 0, 4, Kind.PREFILL, False, 7),)
    assert (first.drawing, first.layout.samples.tolist(), first.layout.drawn) == ((), [], 3)
    last = turn(prefill("a", 1, 4, 6, 6), s1=2)
    assert last.step.slices == (Slice("a", 4, 6, Kind.PREFILL, True, 8),)
    assert (last.drawing, last.positions) == ((1,), (5,))
    # nothing is scheduled for a plain decode
    assert turn(s1=1).step.slices == (Slice("a", 6, 7, Kind.DECODE, True, 8),)
    assert turn(s1=1).step.slices == (Slice("a", 7, 8, Kind.DECODE, True, 8),)


def test_rows_stand_in_the_order_of_slots_and_only_some_sample(turn):
    now = turn(prefill("late", 0, 0, 3, 9), prefill("whole", 2, 0, 2, 2), s0=3, s2=2)
    assert [part.request for part in now.step.slices] == ["late", "whole"]
    assert (now.layout.rows.tolist(), now.layout.samples.tolist()) == ([0, 1, 2, 3, 4], [2])
    assert now.slots == (0, 2)


def test_a_turn_in_which_no_slot_runs_is_no_step(turn):
    assert turn() is None
    assert turn(prefill("a", 0, 0, 2, 2), s0=2).step.index == 0


def test_a_slot_that_waits_for_a_block_goes_on_where_it_stood(turn):
    turn(prefill("a", 0, 0, 4, 4, blocks=(3,)), prefill("b", 1, 0, 1, 1), s0=4, s1=1)
    waits = turn(s1=1)
    assert [part.request for part in waits.step.slices] == ["b"]
    now = turn(Task("decode", "a", 0, (3, 5)), s0=1, s1=1)
    assert now.step.slices[0] == Slice("a", 4, 5, Kind.DECODE, True, 5)


def test_a_preemption_and_the_new_start_with_what_was_generated(turn):
    turn(prefill("a", 0, 0, 4, 4), s0=4)
    turn(s0=1)
    gone = turn(Task("preempted", "a", 0), prefill("b", 1, 0, 2, 2), s1=2)
    assert gone.step.events == (Event(EventKind.PREEMPTED, "a", 5),)
    again = turn(prefill("a", 2, 0, 6, 6, outputs=(11, 12)), s1=1, s2=6)
    assert again.step.slices[1] == Slice("a", 0, 6, Kind.PREFILL, True, 7)
    # two before, one now
    assert turn.slots.generated(2, {}) == 3


def test_a_prefix_that_was_cached_is_a_hit(turn):
    now = turn(prefill("a", 0, 4, 6, 6), s0=2)
    assert now.step.events == (Event(EventKind.HIT, "a", 4),)
    assert now.step.slices[0].start == 4


def test_an_abort_ends_a_request_before_the_next_step(turn):
    turn(prefill("a", 0, 0, 2, 2), prefill("b", 1, 0, 2, 2), s0=2, s1=2)
    now = turn(Task("abort", "a", 0), s1=1)
    assert now.aborted == (Event(EventKind.FINISHED, "a", 1),)
    assert turn(s1=1).aborted == ()


def test_a_task_for_a_request_that_is_gone_changes_nothing(turn):
    turn(prefill("a", 0, 0, 2, 2), s0=2)
    turn(prefill("b", 0, 0, 2, 2), s0=2)
    now = turn(Task("decode", "a", 0, (1,)), Task("preempted", "a", 0), s0=1)
    assert (now.step.events, now.step.slices[0].first_block) == ((), 7)


def test_a_reordered_batch_is_read_by_its_map(turn):
    """FD_PD_REORDER swaps rows of the batch; tasks still name slots."""
    turn(prefill("a", 0, 0, 2, 2), s0=2)
    now = turn(prefill("b", 1, 0, 3, 3), s0=3, s1=1, order={0: 1, 1: 0})
    assert [(part.request, part.start) for part in now.step.slices] == [("b", 0), ("a", 2)]
    assert now.drawing == (0, 1)
    assert [turn.slots.generated(row, {0: 1, 1: 0}) for row in now.drawing] == [1, 2]


def test_a_slot_that_no_task_filled(turn):
    with pytest.raises(EngineError, match="runs 2 tokens in slot 1, where no task put a request"):
        turn(s1=2)


def test_a_chunk_that_does_not_go_on_where_the_last_ended(turn):
    turn(prefill("a", 0, 0, 4, 12), s0=4)
    with pytest.raises(EngineError, match=r"its chunk begins at 8, the one before ended at 4"):
        turn(prefill("a", 0, 8, 12, 12), s0=4)

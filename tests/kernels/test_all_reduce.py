"""Sums over ranks: their order, at every size, whoever comes late; and what is refused."""

import threading
import time

import numpy as np
import pytest

from detrec.errors import EngineError
from detrec.kernels.cpu import group as grouping
from detrec.kernels.cpu.arrivals import Arrivals
from detrec.kernels.cpu.group import CpuGroup
from detrec.kernels.rendezvous import Rendezvous
from tests.bits import assert_same_bits
from tests.kernels.lanes import bfloat16, rough
from tests.kernels.messages import check, expected, fresh, message
from tests.kernels.ranks import in_ranks

WORLDS = [2, 3, 4, 8]


@pytest.mark.parametrize("world_size", [1, *WORLDS])
def test_the_sum_of_ranks_in_order(world_size):
    check(world_size, range(120))


@pytest.mark.parametrize("wrong", ["ranks", "tree", "bfloat16"])
def test_messages_tell_one_order_from_another(wrong):
    """Negative control: another order, or a rounding in between, has other bits."""
    one = message(3 if wrong == "ranks" else 6, 4)
    right = expected(one)
    if wrong == "bfloat16":
        values = [bfloat16(value.view(np.float32)) for value in one.values]
        other = expected(type(one)(values, "ranks", "float32"))
    else:
        other = expected(type(one)(one.values, wrong, one.result))
    with pytest.raises(AssertionError, match="differ in bits"):
        assert_same_bits(other, right)


@pytest.mark.parametrize("order", ["ranks", "tree"])
@pytest.mark.parametrize("world_size", [2, 4])
def test_both_stages_give_the_same_bits(world_size, order, monkeypatch):
    values = [rough(7, 333, seed) for seed in range(world_size)]

    def work(meeting: Rendezvous) -> np.ndarray:
        group = CpuGroup(meeting, 1 << 16)
        value = values[meeting.rank]
        return group.all_reduce(value, fresh(value.shape, "float32"), order=order)

    short = in_ranks(world_size, work)
    monkeypatch.setattr(grouping, "TWO_STAGES", 1)
    for one, other in zip(short, in_ranks(world_size, work), strict=True):
        assert_same_bits(one, other)


def test_a_row_does_not_see_its_batch(monkeypatch):
    monkeypatch.setattr(grouping, "TWO_STAGES", 1 << 10)
    values = [rough(64, 100, seed) for seed in range(3)]

    def work(meeting: Rendezvous) -> tuple[np.ndarray, np.ndarray]:
        group = CpuGroup(meeting, 1 << 16)
        value = values[meeting.rank]
        whole = group.all_reduce(value, np.empty_like(value), order="ranks")
        rows = [group.all_reduce(row[None], np.empty_like(row[None]), order="ranks") for row in value]
        return whole, np.concatenate(rows)

    for whole, rows in in_ranks(3, work):
        assert_same_bits(whole, rows)


@pytest.mark.parametrize("split", [1, 2, 4])
def test_partial_sums_that_are_subtrees_give_the_bits_of_any_number_of_ranks(split):
    values = [rough(3, 77, seed) for seed in range(8)]

    def tree(parts: list[np.ndarray]) -> np.ndarray:
        return expected(type(message(1, 2))(parts, "tree", "float32"))

    def work(meeting: Rendezvous) -> np.ndarray:
        own = values[meeting.rank * 8 // split : (meeting.rank + 1) * 8 // split]
        group = CpuGroup(meeting, 1 << 12)
        return group.all_reduce(tree(own), np.empty((3, 77), np.uint16), order="tree")

    for got in in_ranks(split, work):
        assert_same_bits(got, bfloat16(tree(values)))


# 7 columns of 3 ranks fill 21: two are left out where 19 are wanted
@pytest.mark.parametrize(("world_size", "width", "wanted"), [(1, 5, 5), (2, 4, 8), (3, 7, 19), (8, 1, 3)])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_columns_of_ranks_come_side_by_side(world_size, width, wanted, kind):
    whole = rough(3, world_size * width)
    whole = bfloat16(whole) if kind == "bfloat16" else whole

    def work(meeting: Rendezvous) -> np.ndarray:
        group = CpuGroup(meeting, 1 << 12)
        mine = np.ascontiguousarray(whole[:, meeting.rank * width : (meeting.rank + 1) * width])
        return group.all_gather(mine, fresh((3, wanted), kind))

    for got in in_ranks(world_size, work):
        assert_same_bits(got, np.ascontiguousarray(whole[:, :wanted]))


def test_more_room_can_be_had():
    def work(meeting: Rendezvous) -> float:
        group = CpuGroup(meeting, 64)
        value = np.full((1, 100), meeting.rank + 1, np.float32)
        with pytest.raises(EngineError, match="a message of 400 bytes, the group was made for 64"):
            group.all_reduce(value, value.copy(), order="ranks")
        group.reserve(400)
        return float(group.all_reduce(value, value.copy(), order="ranks").sum())

    assert in_ranks(2, work) == [300.0, 300.0]


def test_no_elements():
    def work(meeting: Rendezvous) -> int:
        group, none = CpuGroup(meeting, 64), np.empty((0, 4), np.float32)
        reduced = group.all_reduce(none, none.copy(), order="ranks")
        return reduced.size + group.all_gather(none, np.empty((0, 8), np.float32)).size

    assert in_ranks(2, work) == [0, 0]


FLOATS = np.zeros((2, 4), np.float32)


@pytest.mark.parametrize(
    ("x", "out", "order", "message"),
    [
        pytest.param(FLOATS.astype(np.float64), FLOATS, "ranks", "x is float64", id="dtype"),
        pytest.param(FLOATS, FLOATS.astype(np.int32), "ranks", "out is int32", id="dtype of out"),
        pytest.param(FLOATS.astype(np.float16), FLOATS.astype(np.int32), "ranks", "out int32", id="float16"),
        pytest.param(FLOATS, FLOATS[:1], "ranks", "expected one shape", id="shape"),
        pytest.param(FLOATS.T, FLOATS.T.copy(), "ranks", "not contiguous", id="strides"),
        pytest.param(FLOATS, FLOATS, "arrival", "order is 'arrival'", id="order"),
        pytest.param(FLOATS, FLOATS, "tree", "3 ranks make no tree", id="tree of three"),
    ],
)
def test_what_cannot_be_added_is_refused(x, out, order, message):
    def work(meeting: Rendezvous) -> None:
        with pytest.raises(EngineError, match=message):
            CpuGroup(meeting, 1 << 12).all_reduce(x, out, order=order)

    in_ranks(3, work)


@pytest.mark.parametrize(
    ("x", "out", "message"),
    [
        pytest.param(FLOATS, np.zeros((2, 9), np.float32), "do not fill 9", id="too wide"),
        pytest.param(FLOATS, np.zeros((2, 8), np.uint16), "of one dtype", id="dtypes"),
        pytest.param(FLOATS, np.zeros((3, 8), np.float32), "as many rows", id="rows"),
    ],
)
def test_what_cannot_be_gathered_is_refused(x, out, message):
    def work(meeting: Rendezvous) -> None:
        with pytest.raises(EngineError, match=message):
            CpuGroup(meeting, 1 << 12).all_gather(x, out)

    in_ranks(2, work)


def test_a_rank_that_does_not_come_is_named():
    missed = threading.Event()

    def work(meeting: Rendezvous) -> None:
        group = CpuGroup(meeting, 1 << 12)
        if meeting.rank == 1:
            assert missed.wait(60)
            return
        # rank 2 waits for as long as rank 1 is there
        says = "has ended" if meeting.rank else r"did not come within 0\.2 s"
        meeting.timeout_s = 60 if meeting.rank else 0.2
        with pytest.raises(EngineError, match=f"rank 1 {says}"):
            group.all_reduce(FLOATS, FLOATS.copy(), order="ranks")
        if meeting.rank == 0:
            missed.set()

    in_ranks(3, work)


def test_ranks_come_as_they_come():
    orders = [[2, 1, 0], [0, 2, 1], [0, 1, 2]]

    def work(meeting: Rendezvous) -> list[list[int]]:
        arrivals = Arrivals(meeting)
        seen = []
        for call, order in enumerate(orders):
            # the word that counts who has come
            while arrivals._words[8] < 3 * call + order.index(meeting.rank):
                time.sleep(0.001)
            seen.append(arrivals.order())
        return seen

    assert in_ranks(3, work) == [orders] * 3

"""Sums over ranks in another order: as they arrive, around a ring, or of another number of ranks."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from detrec.engines.builtin.bfloat16 import narrowed, widened
from detrec.engines.faults.base import Bounds, Fault, FaultyOp, OpFault
from detrec.engines.faults.races import TRIES
from detrec.engines.ops import Ops
from detrec.kernels.group import Group

# seconds a rank is late at most: longer than the others take to come
JITTER = 3e-4


def everyones(group: Group, x: np.ndarray) -> np.ndarray:
    """What each rank gives, float32 [ranks, n]; all ranks must call it."""
    whole = np.empty((1, group.world_size * x.size), x.dtype)
    group.all_gather(np.ascontiguousarray(x).reshape(1, -1), whole)
    values = widened(whole) if whole.dtype == np.uint16 else whole
    return values.reshape(group.world_size, -1)


def in_turn(values: np.ndarray, turns: Sequence[int]) -> np.ndarray:
    """Rows of float32 [ranks, n] added in the order of `turns`."""
    total = values[turns[0]].copy()
    for rank in turns[1:]:
        total += values[rank]
    return total


def like(total: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float32 [n], rounded to what `right` is, in its shape."""
    return (narrowed(total) if right.dtype == np.uint16 else total).reshape(right.shape)


class ArrivalOrder(OpFault):
    """Ranks are added as they come, and who is late is late by chance."""

    name = "allreduce_arrival_order"
    summary = "an all-reduce adds the ranks in the order in which they arrive"
    source = "vLLM #51290, #51292"
    cause = "collective"
    number = (13,)
    expects = "`op`, while every rank's partial sum is equal; repeated, it gives several outputs"
    acts_on = ("o_proj", "down_proj")
    # two ranks have one sum, whoever is first
    least_ranks = 3

    def __init__(self, notify: Callable[[str], None], *, step: int = 2, op: str = "1.o_proj") -> None:
        super().__init__(notify, step=step, op=op)
        self._late = random.SystemRandom()

    def equip(self, ops: Ops) -> Ops:
        """Replace the all-reduce."""
        from detrec.kernels.cpu.arrivals import Arrivals
        from detrec.kernels.cpu.group import CpuGroup

        group = self.group
        assert isinstance(group, CpuGroup), "an engine of several ranks on a CPU has one"
        arrivals = Arrivals(group.meeting)

        def reduced(right: np.ndarray, x: np.ndarray) -> np.ndarray:
            values, wrong = everyones(group, x), right
            # all ranks see one order, so all try again or none does
            for _ in range(1 if self.sighting else TRIES):
                time.sleep(self._late.random() * JITTER)
                wrong = like(in_turn(values, arrivals.order()), right)
                if wrong.tobytes() != right.tobytes():
                    break
            return wrong

        return replace(ops, all_reduce=self.instead(ops.all_reduce, reduced))


class ReduceBySize(OpFault):
    """Long messages go around a ring, which begins each part of a message at another rank."""

    name = "all_reduce_by_size"
    summary = "messages of `rows` rows or more are added around a ring of the ranks"
    source = "vLLM #50136"
    cause = "collective"
    number = (12,)
    expects = "`op`, in a step of many rows, while every rank's partial sum is equal; another kernel ran"
    acts_on = ("o_proj", "down_proj")
    bounds: ClassVar[Bounds] = {"rows": (1, (1 << 31) - 1)}
    least_ranks = 3

    def __init__(
        self, notify: Callable[[str], None], *, step: int = 0, op: str = "1.o_proj", rows: int = 8
    ) -> None:
        super().__init__(notify, step=step, op=op)
        self.least_rows = rows

    def equip(self, ops: Ops) -> Ops:
        """Replace the all-reduce."""
        group = self.group
        assert group is not None, "an engine of several ranks has one"
        size = group.world_size

        def around(right: np.ndarray, x: np.ndarray) -> np.ndarray | None:
            if len(x) < self.least_rows:
                return None
            parts = np.array_split(everyones(group, x), size, axis=1)
            turns = [[(first + i) % size for i in range(size)] for first in range(size)]
            total = np.concatenate([in_turn(part, turn) for part, turn in zip(parts, turns, strict=True)])
            return like(total, right)

        return replace(ops, all_reduce=self.instead(ops.all_reduce, around, f"cpu.all_reduce ring of {size}"))


class RanksOfReplay(Fault):
    """Row-parallel layers are summed as that many ranks would sum them."""

    name = "ranks_of_replay"
    summary = "o_proj and down_proj are the sums that `ranks` ranks would give"
    source = "lmdeploy #2299"
    cause = "collective"
    number = (32,)
    expects = "o_proj, while its partial sum is equal; the kernel names another number of ranks"
    bounds: ClassVar[Bounds] = {"ranks": (2, 8)}

    def __init__(self, notify: Callable[[str], None], *, step: int = 0, ranks: int = 2) -> None:
        super().__init__(notify, step=step)
        self.ranks = ranks
        self._given: dict[str, tuple[np.ndarray, Any, np.ndarray]] = {}

    def equip(self, ops: Ops) -> Ops:
        """Remember what is multiplied, and replace the all-reduce."""
        from detrec.kernels.cpu.all_reduce import kernel
        from detrec.kernels.cpu.split_k import split_k_matmul

        def remember(name: str, right: np.ndarray, x: np.ndarray, weight: Any, bias: Any) -> None:
            if self.armed and name.endswith("_partial"):
                # what is reduced again, on other rows, is looked up here
                self._given[name] = np.array(x), weight, np.array(right)

        def reduced(name: str, right: np.ndarray, x: np.ndarray) -> np.ndarray | None:
            given = self._given.get(name.replace("_proj", "_partial"))
            if not self.armed or given is None:
                return None
            multiplied, weight, summands = given
            rows = _rows_of(summands, x)
            if rows is None:
                return None
            wrong = np.empty_like(right)
            split_k_matmul(np.ascontiguousarray(multiplied[rows]), weight, None, wrong, self.ranks)
            self.compare(name, right, wrong, self.rows())
            return wrong

        return replace(
            ops,
            matmul=FaultyOp(ops.matmul, remember),
            all_reduce=FaultyOp(ops.all_reduce, reduced, kernel("ranks", self.ranks)),
        )


def _rows_of(known: np.ndarray, wanted: np.ndarray) -> list[int] | None:
    """Which rows of `known` have the bits of each row of `wanted`; None where one has none."""
    places = {row.tobytes(): place for place, row in enumerate(known)}
    rows = [places.get(row.tobytes(), -1) for row in wanted]
    return None if -1 in rows else rows

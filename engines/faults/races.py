"""Work that is added in the order in which it is done."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from detrec.engines.faults.base import Bounds, Fault, FaultyOp
from detrec.engines.ops import Ops

TRIES = 64
"""Calls until the race changes a bit where it must; one is seen to be enough."""


class RacingMatmul(Fault):
    """Threads add their leaves of K to one sum, as they come: the same call gives other bits."""

    name = "racing_matmul"
    summary = "`leaves` threads add their part of a matmul as they come, in `percent` of the calls"
    source = "triton #9871"
    cause = "race"
    one_rank = True
    number = (20,)
    expects = "`op`, on equal inputs and by the same kernel; repeated on one input it gives several outputs"
    acts_on = ("qkv", "o_partial", "gate_up", "down_partial", "logits")
    bounds: ClassVar[Bounds] = {"leaves": (3, 64), "percent": (1, 100)}

    def __init__(
        self,
        notify: Callable[[str], None],
        *,
        step: int = 2,
        op: str = "1.o_partial",
        leaves: int = 8,
        percent: int = 100,
    ) -> None:
        super().__init__(notify, step=step)
        self.op, self.leaves, self.percent = op, leaves, percent
        self._chance = random.SystemRandom()

    def equip(self, ops: Ops) -> Ops:
        """Replace the matmul."""
        from detrec.kernels.cpu.split_k import racing_matmul

        def raced(name: str, right: np.ndarray, x: np.ndarray, weight: Any, bias: Any) -> np.ndarray | None:
            if not self.armed or name != self.op or self._chance.randrange(100) >= self.percent:
                return None
            wrong = np.empty_like(right)
            for _ in range(1 if self.sighting else TRIES):
                racing_matmul(x, weight, bias, wrong, self.leaves)
                if wrong.tobytes() != right.tobytes():
                    break
            self.compare(name, right, wrong, self.sample_rows() if name == "logits" else self.rows())
            return wrong

        return replace(ops, matmul=FaultyOp(ops.matmul, raced))

"""Work that is added in the order in which it is done."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from detrec.engines.faults.base import Bounds, OpFault
from detrec.engines.ops import Ops

TRIES = 64
"""Calls until the race changes a bit where it must; one is seen to be enough."""


class RacingMatmul(OpFault):
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
        super().__init__(notify, step=step, op=op)
        self.leaves, self.percent = leaves, percent
        self._chance = random.SystemRandom()

    def equip(self, ops: Ops) -> Ops:
        """Replace the matmul."""
        from detrec.kernels.cpu.split_k import racing_matmul

        def raced(right: np.ndarray, x: np.ndarray, weight: Any, bias: Any) -> np.ndarray | None:
            if self._chance.randrange(100) >= self.percent:
                return None
            wrong = np.empty_like(right)
            for _ in range(1 if self.sighting else TRIES):
                racing_matmul(x, weight, bias, wrong, self.leaves)
                if wrong.tobytes() != right.tobytes():
                    break
            return wrong

        return replace(ops, matmul=self.instead(ops.matmul, raced))

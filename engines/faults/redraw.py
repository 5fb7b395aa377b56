"""Tokens drawn by the right sampler with the wrong numbers: what the rng faults have in common."""

from abc import ABC, abstractmethod
from dataclasses import replace

import numpy as np

from detrec.engines.builtin.batch import Draws
from detrec.engines.faults.base import Fault, FaultyOp
from detrec.engines.ops import Ops


class Redraw(Fault, ABC):
    """From `step` on, draws as `changed` has them."""

    kernel = ""
    """What the trace then names; "": the right sampler."""

    @abstractmethod
    def changed(self, draws: Draws) -> Draws | None:
        """The draws of the step that runs now, with this fault in them; None leaves them."""

    def drift(self, by: int) -> np.uint64:
        """How far a generator that every step moves by `by` has come in the step that runs now."""
        return np.uint64(by * (self._now.index - self.from_step + 1))

    def equip(self, ops: Ops) -> Ops:
        """Draw again with the changed numbers."""

        def redrawn(name: str, right: np.ndarray, logprobs: np.ndarray, draws: Draws) -> np.ndarray | None:
            changed = self.changed(draws) if self.armed else None
            if changed is None:
                return None
            # the engine gives its memory out again
            kept = right.copy()
            wrong: np.ndarray = ops.sample(name, logprobs, changed)
            self.compare(name, kept, wrong, self.sample_rows())
            return wrong

        return replace(ops, sample=FaultyOp(ops.sample, redrawn, self.kernel))

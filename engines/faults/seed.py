"""Seeds that depend on what the engine did before."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from detrec.engines.builtin.batch import Draws
from detrec.engines.faults.base import Fault, FaultyOp
from detrec.engines.ops import Ops


class SeedDrift(Fault):
    """The seed of a request moves on with every engine step, as FastDeploy's infer_seed does."""

    name = "seed_drift"
    summary = "seeds grow by `by` with every engine step from `step` on"
    source = "FlashInfer #4861, FastDeploy infer_seed"
    cause = "rng"
    number = (23, 24)
    expects = "sampled, in a row that is drawn with a seed: logprobs are equal, the seeds differ"

    def __init__(self, notify: Callable[[str], None], *, step: int = 3, by: int = 4) -> None:
        super().__init__(notify, step=step)
        self.by = by

    def equip(self, ops: Ops) -> Ops:
        """Draw with the drifted seeds."""

        def drifted(name: str, right: np.ndarray, logprobs: np.ndarray, draws: Draws) -> np.ndarray | None:
            if not self.armed:
                return None
            kept = right.copy()
            drift = np.uint64(self.by * (self._now.index - self.from_step + 1))
            wrong = ops.sample(name, logprobs, replace(draws, seed=draws.seed + drift))
            self.compare(name, kept, wrong, self.sample_rows())
            return wrong

        return replace(ops, sample=FaultyOp(ops.sample, drifted, "sample with a drifting seed"))

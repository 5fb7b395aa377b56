"""Seeds that depend on what the engine did before."""

from collections.abc import Callable
from dataclasses import replace

from detrec.engines.builtin.batch import Draws
from detrec.engines.faults.redraw import Redraw


class SeedDrift(Redraw):
    """The seed of a request moves on with every engine step, as FastDeploy's infer_seed does."""

    name = "seed_drift"
    summary = "seeds grow by `by` with every engine step from `step` on"
    source = "FlashInfer #4861, FastDeploy infer_seed"
    cause = "rng"
    number = (23, 24)
    kernel = "sample with a drifting seed"
    expects = "sampled, in a row that is drawn with a seed: logprobs are equal, the seeds differ"

    def __init__(self, notify: Callable[[str], None], *, step: int = 3, by: int = 4) -> None:
        super().__init__(notify, step=step)
        self.by = by

    def changed(self, draws: Draws) -> Draws:
        """The drifted seeds."""
        return replace(draws, seed=draws.seed + self.drift(self.by))

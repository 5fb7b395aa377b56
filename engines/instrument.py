"""What may look into an engine as it runs: a fault breaks something, a capture keeps something."""

from typing import Protocol

from detrec.engines.base import Step
from detrec.engines.ops import Ops


class Instrument(Protocol):
    """Told of every step before it runs; its `equip` is called once, before the first."""

    def step(self, step: Step) -> None:
        """A forward pass begins."""
        ...

    def equip(self, ops: Ops) -> Ops:
        """The Ops table to use instead of `ops`, which has every fault in it."""
        ...

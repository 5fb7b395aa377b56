"""Three kernels that one threshold changes at once."""

from collections.abc import Callable
from typing import ClassVar

from detrec.engines.base import Step
from detrec.engines.faults.attention_tiles import TileByLongest
from detrec.engines.faults.base import Bounds, Fault
from detrec.engines.faults.collectives import ReduceBySize
from detrec.engines.faults.split_k import SplitKByBatch
from detrec.engines.ops import Ops

_NEVER = 1 << 31


class ThresholdsAtOnce(Fault):
    """Beside a long slice, attention has another tile, gate_up splits K, and down_proj goes around a ring."""

    name = "thresholds_at_once"
    summary = "beside a slice of more than `tokens` tokens, attn, gate_up and down_proj run other kernels"
    source = "SGLang #33417"
    cause = "kernel-choice"
    number = (4,)
    expects = "attn of layer `layer`, in rows beside a long slice; the fault tells the two others that follow"
    acts_on = ("attn", "gate_up", "down_proj")
    bounds: ClassVar[Bounds] = {"tokens": (1, (1 << 31) - 1)}
    least_ranks = 3

    def __init__(
        self, notify: Callable[[str], None], *, step: int = 2, layer: int = 0, tokens: int = 8
    ) -> None:
        super().__init__(notify, step=step)
        self.layer, self.tokens = layer, tokens
        self._attention = TileByLongest(self._told, step=step, layer=layer, tokens=tokens)
        self._others: tuple[Fault, ...] = (
            SplitKByBatch(self._told, op=f"{layer}.gate_up", rows=_NEVER),
            ReduceBySize(self._told, op=f"{layer}.down_proj", rows=1),
        )

    def _told(self, text: str) -> None:
        """One of the three has changed its first bit: the first of them is this fault's."""
        place = text.partition(" changed at ")[2]
        seen = self.sighting is not None
        found = [part.sighting for part in (self._attention, *self._others) if part.sighting]
        self.sighting = self.sighting or found[0]
        self._notify(f"fault {self.name}: {'then' if seen else 'first bit changed'} at {place}")

    def step(self, step: Step) -> None:
        """A forward pass begins: the two others follow attention's threshold."""
        super().step(step)
        lengths = [part.stop - part.start for part in step.slices]
        mixed = min(lengths) <= self.tokens < max(lengths)
        self._attention.step(step)
        for other in self._others:
            other.from_step = self.from_step if mixed else _NEVER
            other.step(step)

    def equip(self, ops: Ops) -> Ops:
        """All three."""
        for part in (self._attention, *self._others):
            part.group = self.group
            ops = part.equip(ops)
        return ops

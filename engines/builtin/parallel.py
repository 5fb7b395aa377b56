"""What an Ops table needs to know of the ranks that it is one of."""

from dataclasses import dataclass

from detrec.kernels.group import Group
from detrec.kernels.leaves import LEAVES


@dataclass(frozen=True, slots=True)
class Parallel:
    """`group` is None where there is one rank; `vocab_size` is the whole model's.

    `reduction`: "ranks" adds each rank's partial sum, of the engine's dtype, in rank order. "tp_invariant"
    makes LEAVES sums of K on as many ranks as there are, and adds them in float32 in one tree.
    """

    group: Group | None
    reduction: str
    vocab_size: int

    @property
    def rank(self) -> int:
        """Which one this is."""
        return self.group.rank if self.group else 0

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return self.group.world_size if self.group else 1

    @property
    def invariant(self) -> bool:
        """Whether any number of ranks gives the same bits."""
        return self.reduction == "tp_invariant"

    @property
    def order(self) -> str:
        """How partial sums are added: one of `kernels.group.ORDERS`."""
        return "tree" if self.invariant else "ranks"

    @property
    def leaves(self) -> int:
        """How many of the LEAVES sums are this rank's."""
        return LEAVES // self.size

"""Attention that visits KV in another order for some of its rows: what all such faults share."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from detrec.engines.base import Slice, Step
from detrec.engines.builtin.batch import Batch
from detrec.engines.faults.base import Bounds, Fault, FaultyOp
from detrec.engines.ops import Ops

WHOLE = 1 << 30
"""A block that holds all of a row's KV: no online softmax."""


@dataclass(frozen=True, slots=True)
class Order:
    """Another order for the rows in `rows`, bool [R]: parts from `starts` [R, P], visited by `block`."""

    kernel: str
    rows: np.ndarray
    starts: np.ndarray
    block: int


def parts_of(step: Step, batch: Batch, block_size: int) -> list[Slice | None]:
    """Whose slice of `step` each row of `batch` is, whatever rows the batch has and in whichever order."""
    found = []
    for seq, position in zip(batch.row_seq.tolist(), batch.positions.tolist(), strict=True):
        near = [part for part in step.slices if part.start <= position < part.stop]
        table = batch.block_tables[seq]
        # a block that is written to belongs to one request alone
        owners = [part for part in near if table[part.start // block_size] == part.first_block]
        # the KV of another run may lie elsewhere
        owners = owners or (near if len(near) == 1 else [])
        found.append(owners[0] if owners else None)
    return found


class AttentionFault(Fault, ABC):
    """From `step` and `layer` on, the rows that `order` names are computed in its order."""

    acts_on = ("attn",)
    bounds: ClassVar[Bounds] = {"tokens": (1, WHOLE), "block": (1, WHOLE), "splits": (2, WHOLE)}

    def __init__(self, notify: Callable[[str], None], *, step: int = 0, layer: int = 0) -> None:
        super().__init__(notify, step=step)
        self.layer = layer
        self._kernel = ""

    @abstractmethod
    def order(self, batch: Batch, block_size: int) -> Order:
        """What to do with the rows of `batch`, whose KV lies in blocks of `block_size`."""

    def equip(self, ops: Ops) -> Ops:
        """Replace attention."""
        from detrec.kernels.cpu.attention_parts import attention_in_parts

        def other(
            name: str, right: np.ndarray, q: np.ndarray, cache: np.ndarray, batch: Batch, scale: float
        ) -> np.ndarray | None:
            if not self.armed or int(name.partition(".")[0]) < self.layer:
                return None
            order = self.order(batch, cache.shape[1])
            rows = order.rows
            if not rows.any():
                return None
            some = np.empty_like(right[rows])
            attention_in_parts(
                *(q[rows], cache, batch.block_tables, batch.row_seq[rows], batch.positions[rows]),
                *(scale, some, order.starts[rows], order.block),
            )
            wrong = right.copy()
            wrong[rows] = some
            self._kernel = order.kernel
            self.compare(name, right, wrong, self.rows())
            return wrong

        return replace(ops, attention=FaultyOp(ops.attention, other, lambda: self._kernel))

    def those(self, batch: Batch, block_size: int, wanted: Callable[[Slice], bool]) -> np.ndarray:
        """The rows of `batch` whose slice is `wanted`, bool [R]."""
        parts = parts_of(self._now, batch, block_size)
        return np.array([part is not None and wanted(part) for part in parts], bool)

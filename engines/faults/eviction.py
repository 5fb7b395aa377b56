"""A KV block that is given away while somebody still reads it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from detrec.engines.base import Step
from detrec.engines.builtin.batch import Batch
from detrec.engines.builtin.blocks import BlockManager
from detrec.engines.faults.clean_cache import CacheFault


class EarlyEviction(CacheFault):
    """A block looked idle when it was checked, and was in use when it was taken."""

    name = "early_eviction"
    summary = "the first block of `request` (or of whoever runs first) is given to the next who needs one"
    source = "vLLM #42289"
    expects = "attention reads KV that another request wrote; kv_write is equal"

    def __init__(self, notify: Callable[[str], None], *, step: int = 3, request: str = "") -> None:
        super().__init__(notify, step=step)
        self.request = request
        self._ran: set[str] = set()
        self._thief, self._place, self._block = "", 0, -1

    def step(self, step: Step) -> None:
        """Whoever has run has something to lose."""
        super().step(step)
        self._ran.update(part.request for part in step.slices)

    def blocks(self, blocks: BlockManager) -> BlockManager:
        """One that gives away a block in use, once."""
        super().blocks(blocks)
        return _Careless(blocks, self)

    def taken(self, thief: str, tables: Mapping[str, Sequence[int]]) -> int | None:
        """The block in use that `thief` is to get; None: an idle one, as is right."""
        if self.acting or self._now.index + 1 < self.from_step:
            return None
        for victim, table in tables.items():
            if victim not in self._ran or self.request not in ("", victim):
                continue
            if table and table[0] not in tables[thief]:
                self.acting = True
                self._thief, self._place, self._block = thief, len(tables[thief]), table[0]
                return self._block
        return None

    def holds(self, request: str) -> int | None:
        """Which of its blocks `request` should not have."""
        return self._place if self.acting and request == self._thief else None

    def returned(self, request: str) -> None:
        """`request` has no blocks any more."""
        if request == self._thief:
            self._thief = ""

    def intended(self, batch: Batch) -> Batch:
        """The thief has a block of its own, and writes there."""
        tables, slots = batch.block_tables.copy(), batch.slots.copy()
        for seq, part in enumerate(self._now.slices):
            if part.request == self._thief:
                tables[seq, self._place] = self.num_blocks
                rows = batch.row_seq == seq
                at = batch.positions[rows]
                slots[rows] = tables[seq, at // self.block_size].astype(np.int64) * self.block_size
                slots[rows] += at % self.block_size
        return replace(batch, block_tables=tables, slots=slots)


class _Careless(BlockManager):
    """A BlockManager that asks `fault` before it takes an idle block."""

    def __init__(self, blocks: BlockManager, fault: EarlyEviction) -> None:
        super().__init__(blocks.num_blocks, blocks.block_size, prefix_caching=blocks.prefix_caching)
        self._fault = fault
        self._displaced: dict[int, bytes] = {}

    def grow(self, request: str, stop: int) -> bool:
        """Give `request` room for positions up to `stop`."""
        table = self.tables[request]
        if len(table) < self.blocks_for(stop):
            block = self._fault.taken(request, self.tables)
            if block is not None:
                self._use(block)
                table.append(block)
        return super().grow(request, stop)

    def publish(self, request: str, tokens: Sequence[int], computed: int) -> None:
        """Make full blocks findable; the block in use stays findable as what it was, too."""
        place = self._fault.holds(request)
        block = None if place is None else self.tables[request][place]
        key = None if block is None else self._key_of.get(block)
        super().publish(request, tokens, computed)
        if block is not None and key is not None and self._key_of.get(block) != key:
            self._displaced[block] = key

    def _forget(self, block: int) -> None:
        super()._forget(block)
        self._block_of.pop(self._displaced.pop(block, b""), None)

    def release(self, request: str) -> None:
        """Take all blocks of `request` back."""
        super().release(request)
        self._fault.returned(request)

"""KV that is read or written in another place than it should be."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from detrec.engines.builtin.batch import Batch
from detrec.engines.faults.clean_cache import CacheFault
from detrec.engines.ops import Op
from detrec.errors import ConfigError


class WrongBlock(CacheFault):
    """The block table is off by one where a request goes on at the first slot of a block."""

    name = "wrong_block"
    summary = (
        "a request (`request`, or any) that goes on at a block boundary reads the new block for the last"
    )
    source = "SGLang #22819"
    one_rank = True
    number = (8,)
    expects = "attention reads other KV than was written there; kv_write is equal"

    def __init__(self, notify: Callable[[str], None], *, step: int = 0, request: str = "") -> None:
        super().__init__(notify, step=step)
        self.request = request

    def misplaced(self, batch: Batch) -> Batch:
        """The table of every such request with its last full block replaced by the one behind it."""
        if not self.armed:
            return batch
        tables = batch.block_tables.copy()
        for seq, part in enumerate(self._now.slices):
            block, offset = divmod(part.start, self.block_size)
            if block and not offset and self.request in ("", part.request):
                tables[seq, block - 1] = tables[seq, block]
                self.acting = True
        return replace(batch, block_tables=tables)


class MisplacedWrite(CacheFault):
    """The KV of one row goes to another block; nobody reported that, because it is read back from there."""

    name = "misplaced_write"
    summary = (
        "the KV of the last row of `request` (or of whoever is first) goes to the block after its own, once"
    )
    source = "SGLang #22819"
    one_rank = True
    number = (8,)
    expects = "attention reads other KV than was written; kv_write is equal"

    def __init__(self, notify: Callable[[str], None], *, step: int = 3, request: str = "") -> None:
        super().__init__(notify, step=step)
        self.request = request

    def misplaced(self, batch: Batch) -> Batch:
        """One slot is the one of the same offset in the next block of the cache."""
        if self.acting or not self.armed:
            return batch
        end = 0
        for part in self._now.slices:
            end += part.stop - part.start
            if self.request in ("", part.request):
                self.acting = True
                slots = batch.slots.copy()
                slots[end - 1] = (slots[end - 1] + self.block_size) % (self.num_blocks * self.block_size)
                return replace(batch, slots=slots)
        return batch


class PhantomRow(CacheFault):
    """A row that only pads the batch writes its KV, as a captured graph with stale metadata does."""

    name = "phantom_row"
    summary = "in step `step` a padding row, a copy of the last, writes KV slot `slot`"
    source = "SGLang #27664, vLLM-fork #621"
    one_rank = True
    number = (27,)
    expects = "attention reads KV that no row of its request wrote"

    def __init__(self, notify: Callable[[str], None], *, step: int = 4, slot: int = 0) -> None:
        super().__init__(notify, step=step)
        self.slot = slot

    def misplaced(self, batch: Batch) -> Batch:
        """The same; from this step on the cache may be wrong."""
        self.acting = self.acting or self._now.index == self.from_step
        return batch

    def write(
        self, op: Op, name: str, k: np.ndarray, v: np.ndarray, cache: np.ndarray, slots: np.ndarray
    ) -> np.ndarray:
        """All rows and one more."""
        if self._now.index != self.from_step:
            return super().write(op, name, k, v, cache, slots)
        there = cache.shape[0] * cache.shape[1]
        if self.slot >= there:
            raise ConfigError(f"--fault phantom_row: slot {self.slot}: the KV cache has {there} slots")
        keys, values = (np.concatenate((x, x[-1:])) for x in (k, v))
        return super().write(op, name, keys, values, cache, np.append(slots, self.slot))[:-1]

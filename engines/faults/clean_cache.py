"""Faults of the KV cache: beside the real cache stands the one that there would be without the fault.

From the step in which the fault begins to act until a bit shows it, every layer's cache has a clean copy: the
same rows are written to it where they belong, and attention is computed from it again. So what went into a
slot unseen is found where it is first read.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from detrec.engines.builtin.batch import Batch
from detrec.engines.builtin.blocks import BlockManager
from detrec.engines.faults.base import Fault
from detrec.engines.ops import Op, Ops


class CacheFault(Fault):
    """A subclass gives wrong arrays (`misplaced`), says what the right ones were, or writes too much.

    It sets `acting` in the step in which it begins to.
    """

    cause = "cache"

    def __init__(self, notify: Callable[[str], None], *, step: int = 0) -> None:
        super().__init__(notify, step=step)
        self.acting = False
        self.block_size = self.num_blocks = 0
        self._clean: dict[str, np.ndarray] = {}
        self._given: Batch | None = None
        self._right: Batch | None = None

    def blocks(self, blocks: BlockManager) -> BlockManager:
        """The same; its sizes are kept."""
        self.block_size, self.num_blocks = blocks.block_size, blocks.num_blocks
        return blocks

    def misplaced(self, batch: Batch) -> Batch:
        """The arrays that the engine gets instead of `batch`."""
        return batch

    def intended(self, batch: Batch) -> Batch:
        """What `batch` would be without the fault; block number `num_blocks` is the clean copy's own."""
        return batch

    def write(
        self, op: Op, name: str, k: np.ndarray, v: np.ndarray, cache: np.ndarray, slots: np.ndarray
    ) -> np.ndarray:
        """What kv_write does to the real cache."""
        written: np.ndarray = op(name, k, v, cache, slots)
        return written

    def batch(self, batch: Batch) -> Batch:
        """The wrong arrays; the right ones are kept until a bit has shown the fault."""
        self._given = self.misplaced(batch)
        self._right = self.intended(batch) if self.acting and self.sighting is None else None
        if self._right is None:
            self._clean.clear()
        return self._given

    def equip(self, ops: Ops) -> Ops:
        """Do everything twice, while there is a clean copy."""

        def kv_write(
            name: str, k: np.ndarray, v: np.ndarray, cache: np.ndarray, slots: np.ndarray
        ) -> np.ndarray:
            right = self._right
            if right is None or self._given is None or slots is not self._given.slots or self.sighting:
                return self.write(ops.kv_write, name, k, v, cache, slots)
            layer = name.partition(".")[0]
            if layer not in self._clean:
                self._clean[layer] = np.concatenate((cache, np.zeros_like(cache[:1])))
            expected = ops.kv_write(name, k, v, self._clean[layer], right.slots).copy()
            written = self.write(ops.kv_write, name, k, v, cache, slots)
            self.compare(name, expected, written, self.rows())
            return written

        def attention(name: str, q: np.ndarray, cache: np.ndarray, batch: Batch, scale: float) -> np.ndarray:
            attended: np.ndarray = ops.attention(name, q, cache, batch, scale)
            if self._right is not None and batch is self._given and self.sighting is None:
                clean = self._clean[name.partition(".")[0]]
                expected = ops.attention(name, q, clean, self._right, scale)
                self.compare(name, expected, attended, self.rows())
            return attended

        return replace(
            ops, kv_write=_Around(ops.kv_write, kv_write), attention=_Around(ops.attention, attention)
        )


class _Around:
    """An op with something around it; its kernel is its own."""

    def __init__(self, op: Op, call: Callable[..., Any]) -> None:
        self.kernel = op.kernel
        self._call = call

    def __call__(self, name: str, *args: Any) -> Any:
        return self._call(name, *args)

"""The tile of attention, chosen by the longest slice, by the slice itself, or by what a chunk leaves over."""

from collections.abc import Callable

import numpy as np

from detrec.engines.base import Kind, Slice
from detrec.engines.builtin.batch import Batch
from detrec.engines.faults.attention import AttentionFault, Order


def _one_part(kernel: str, rows: np.ndarray, block: int) -> Order:
    """KV in one part, visited in blocks of another size."""
    return Order(f"{kernel} kv_block={block}", rows, np.zeros((len(rows), 1), np.int64), block)


class TileByLongest(AttentionFault):
    """The tile is chosen for the batch's longest slice: a neighbour's prefill changes a decode."""

    name = "tile_by_longest"
    summary = "beside a slice of more than `tokens` tokens, shorter ones visit KV by `block` positions"
    source = "vLLM #51902, flash-attn #169"
    cause = "kernel-choice"
    one_rank = True
    number = (1,)
    expects = "attn of layer `layer`, in rows of a step that also has a long slice; another kernel ran"

    def __init__(
        self,
        notify: Callable[[str], None],
        *,
        step: int = 2,
        layer: int = 0,
        tokens: int = 8,
        block: int = 32,
    ) -> None:
        super().__init__(notify, step=step, layer=layer)
        self.tokens, self.block = tokens, block

    def order(self, batch: Batch, block_size: int) -> Order:
        """The long slices keep their tile."""
        # as `max_seqlen_q` the longest slice is told to the kernel, not seen by it
        longest = max((part.stop - part.start for part in self._now.slices), default=0)

        def beside(part: Slice) -> bool:
            return part.stop - part.start <= self.tokens < longest

        return _one_part("cpu.attention_long_tile", self.those(batch, block_size, beside), self.block)


class TileByLength(AttentionFault):
    """The tile is chosen by the length of the slice itself."""

    name = "tile_by_length"
    summary = "slices of `tokens` tokens or more visit KV by `block` positions"
    source = "FlashInfer #2424, #2830"
    cause = "kernel-choice"
    one_rank = True
    number = (3,)
    expects = "attn of layer `layer`, in rows of a long slice; another kernel ran"

    def __init__(
        self,
        notify: Callable[[str], None],
        *,
        step: int = 0,
        layer: int = 0,
        tokens: int = 8,
        block: int = 16,
    ) -> None:
        super().__init__(notify, step=step, layer=layer)
        self.tokens, self.block = tokens, block

    def order(self, batch: Batch, block_size: int) -> Order:
        """By the slice, whichever of its rows are asked for."""
        rows = self.those(batch, block_size, lambda part: part.stop - part.start >= self.tokens)
        return _one_part("cpu.attention_tall_tile", rows, self.block)


class PartialChunk(AttentionFault):
    """A chunk that does not fill its tiles is computed by the kernel that checks bounds."""

    name = "partial_chunk_kernel"
    summary = "a chunk of a prompt that is no multiple of `tokens` tokens visits KV by `block` positions"
    source = "lmdeploy #1688, #1719"
    cause = "kernel-choice"
    one_rank = True
    number = (33,)
    expects = (
        "attn of layer `layer`, in rows of a partial chunk, which the schedule shows; another kernel ran"
    )

    def __init__(
        self,
        notify: Callable[[str], None],
        *,
        step: int = 0,
        layer: int = 0,
        tokens: int = 16,
        block: int = 32,
    ) -> None:
        super().__init__(notify, step=step, layer=layer)
        self.tokens, self.block = tokens, block

    def order(self, batch: Batch, block_size: int) -> Order:
        """By the chunk, whichever of its rows are asked for."""

        def partial(part: Slice) -> bool:
            return part.kind == Kind.PREFILL and (part.stop - part.start) % self.tokens != 0

        return _one_part("cpu.attention_partial", self.those(batch, block_size, partial), self.block)

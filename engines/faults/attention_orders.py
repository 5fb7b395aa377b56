"""The parts of KV that attention merges, chosen by the backend, by the number of rows, or by a cache hit."""

from collections.abc import Callable

import numpy as np

from detrec.engines.base import EventKind, Kind, Step
from detrec.engines.builtin.batch import Batch
from detrec.engines.faults.attention import WHOLE, AttentionFault, Order, parts_of


class AttentionBackend(AttentionFault):
    """Another library's attention: scores of a whole row, one softmax."""

    name = "attention_backend"
    summary = "attention is computed by another backend, which takes all of a row's KV at once"
    source = "vLLM #36059"
    cause = "kernel-choice"
    one_rank = True
    number = (2,)
    expects = "attn of layer `layer`, in the first row of more than one position; another kernel ran"

    def __init__(self, notify: Callable[[str], None], *, step: int = 2, layer: int = 0) -> None:
        super().__init__(notify, step=step, layer=layer)

    def order(self, batch: Batch, block_size: int) -> Order:
        """Every row."""
        starts = np.zeros((len(batch.row_seq), 1), np.int64)
        return Order("cpu.attention_whole softmax", np.ones(len(starts), bool), starts, WHOLE)


class SplitKvByBatch(AttentionFault):
    """KV is split to keep a GPU busy: the fewer rows, the more parts."""

    name = "split_kv_by_batch"
    summary = "attention cuts KV into `splits` // rows parts, if that is more than one"
    source = "tokenspeed #904"
    cause = "reduction-order"
    one_rank = True
    number = (5,)
    expects = (
        "attn of layer `layer`, in a step of few rows; the row by itself has other bits than in its batch"
    )

    def __init__(
        self, notify: Callable[[str], None], *, step: int = 2, layer: int = 0, splits: int = 16
    ) -> None:
        super().__init__(notify, step=step, layer=layer)
        self.splits = splits

    def order(self, batch: Batch, block_size: int) -> Order:
        """By the rows that it is called with."""
        rows = len(batch.row_seq)
        parts = self.splits // rows
        width = -(-(batch.positions + 1) // max(parts, 1))
        # no more parts than the longest row has positions
        count = min(max(parts, 1), int(batch.positions.max()) + 1)
        starts = np.arange(count, dtype=np.int64) * width[:, None]
        return Order(f"cpu.attention_split_kv parts={parts}", np.full(rows, parts > 1), starts, WHOLE)


class HitOrder(AttentionFault):
    """A prompt whose beginning was cached merges two attentions: over the hit, and over the rest."""

    name = "prefix_hit_order"
    summary = (
        "after a prefix-cache hit, a prompt's attention is taken over the hit and over the rest, then merged"
    )
    source = "vLLM #5543, #40896, SGLang #34683"
    cause = "kernel-choice"
    one_rank = True
    number = (7,)
    expects = (
        "attn of layer `layer`, in the first token that was not cached; a hit in the schedule, another kernel"
    )

    def __init__(self, notify: Callable[[str], None], *, step: int = 0, layer: int = 0) -> None:
        super().__init__(notify, step=step, layer=layer)
        self._hits: dict[str, int] = {}

    def step(self, step: Step) -> None:
        """Remember who was served by the cache."""
        super().step(step)
        for event in step.events:
            if event.kind == EventKind.HIT:
                self._hits[event.request] = event.tokens
            else:
                self._hits.pop(event.request, None)

    def order(self, batch: Batch, block_size: int) -> Order:
        """Prompts only: a decode is a decode, whatever the cache had."""
        parts = parts_of(self._now, batch, block_size)
        hits = np.array(
            [self._hits.get(part.request, 0) if part and part.kind == Kind.PREFILL else 0 for part in parts],
            np.int64,
        )
        starts = np.stack([np.zeros_like(hits), np.maximum(hits, 1)], axis=1)
        return Order("cpu.attention_cascade parts=hit,rest", hits > 0, starts, WHOLE)

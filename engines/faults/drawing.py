"""Draws that see their batch or the engine's clock, and logprobs that nobody computed."""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from detrec.engines.builtin.batch import Draws
from detrec.engines.faults.base import Bounds, Fault, FaultyOp
from detrec.engines.faults.redraw import Redraw
from detrec.engines.ops import Ops


class Row0Seed(Redraw):
    """The sampler takes one seed for the whole batch."""

    name = "row0_seed"
    summary = "every row is drawn with the seed of the first row, from `step` on"
    source = "TensorRT-LLM #17599, FlashInfer #4861"
    cause = "rng"
    number = (23,)
    expects = "logprobs are equal, the seed is that of another request"

    def __init__(self, notify: Callable[[str], None], *, step: int = 2) -> None:
        super().__init__(notify, step=step)

    def changed(self, draws: Draws) -> Draws:
        """The first row's seed for all."""
        return replace(draws, seed=np.full_like(draws.seed, draws.seed[0]))


class OffsetDrift(Redraw):
    """Top-p sampling takes its noise from one generator, which every step of the engine advances."""

    name = "offset_drift"
    summary = "counters of draws with top_p below 1 grow by `by` with every engine step from `step` on"
    source = "FastDeploy #6610"
    cause = "rng"
    number = (24,)
    expects = "logprobs and seeds are equal, the counter is not the position"

    def __init__(self, notify: Callable[[str], None], *, step: int = 2, by: int = 4) -> None:
        super().__init__(notify, step=step)
        self.by = by

    def changed(self, draws: Draws) -> Draws | None:
        """The drifted counters."""
        shared = draws.top_p < 1
        if not shared.any():
            return None
        return replace(draws, counter=np.where(shared, draws.counter + self.drift(self.by), draws.counter))


class SamplerByBatch(Fault):
    """Another sampler takes over when enough requests draw at once."""

    name = "sampler_by_batch"
    summary = "logprobs are summed in another order when at least `rows` rows are drawn, from `step` on"
    source = "vLLM #51187"
    cause = "reduction-order"
    number = (22,)
    expects = "logits are equal, logprobs differ; alone the row has its own bits"
    bounds: ClassVar[Bounds] = {"rows": (1, 1 << 30)}

    def __init__(self, notify: Callable[[str], None], *, step: int = 0, rows: int = 2) -> None:
        super().__init__(notify, step=step)
        self.least = rows

    def equip(self, ops: Ops) -> Ops:
        """Replace log_softmax in large batches."""
        from detrec.kernels.cpu.chain_softmax import KERNEL, chain_log_softmax

        def other(name: str, right: np.ndarray, x: np.ndarray) -> np.ndarray | None:
            if not self.armed or len(x) < self.least:
                return None
            wrong = chain_log_softmax(x, np.empty_like(right))
            self.compare(name, right, wrong, self.sample_rows())
            return wrong

        return replace(ops, log_softmax=FaultyOp(ops.log_softmax, other, KERNEL))


class StaleLogprobs(Fault):
    """Logprobs come in a buffer that is not cleared, and one row of it is not written."""

    name = "stale_logprobs"
    summary = (
        "the logprobs of `request` (or of the first row) are once what was left there by an earlier step"
    )
    source = "vLLM #42245"
    cause = "cache"
    number = (26,)
    expects = "logits are equal, and the row's logprobs are, bit for bit, a row of an earlier step"

    def __init__(self, notify: Callable[[str], None], *, step: int = 3, request: str = "") -> None:
        super().__init__(notify, step=step)
        self.request = request
        self._buffer: np.ndarray | None = None
        self._latest = -1
        # what goes in at the row that is not written, and what stands there
        self._input, self._left = b"", np.empty(0)

    def equip(self, ops: Ops) -> Ops:
        """Leave out one row."""

        def unwritten(name: str, right: np.ndarray, x: np.ndarray) -> np.ndarray | None:
            if self._now.index == self._latest:
                # run again: whoever asks for that row again finds it unwritten again
                rows = [row for row, logits in enumerate(x) if self._input == logits.tobytes()]
            else:
                self._latest, self._input = self._now.index, b""
                rows = self._row(right)
                self._input = x[rows[0]].tobytes() if rows else b""
            if not rows:
                return None
            wrong = right.copy()
            wrong[rows] = self._left
            self.compare(name, right, wrong, self.sample_rows())
            return wrong

        return replace(ops, log_softmax=FaultyOp(ops.log_softmax, unwritten))

    def _row(self, right: np.ndarray) -> list[int]:
        """The row to leave out, if any; all others are written to the buffer."""
        names = [request for request, _ in self.sample_rows()]
        rows = [row for row, name in enumerate(names) if self.request in ("", name)][:1]
        before = np.empty_like(right[:0]) if self._buffer is None else self._buffer
        self._buffer = np.concatenate((right, before[len(right) :]))
        if not self.armed or self.sighting is not None or not rows or rows[0] >= len(before):
            return []
        self._left = self._buffer[rows[0]] = before[rows[0]]
        return rows

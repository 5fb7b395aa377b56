"""Chunks that follow their neighbours' budget, and rows that another kernel computes after a preemption."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from detrec.engines.base import EventKind, Kind, Request, Scheduler, Slice, Step
from detrec.engines.builtin.batch import Batch
from detrec.engines.builtin.chunking import ChunkRule, greedy
from detrec.engines.faults.attention import parts_of
from detrec.engines.faults.base import OpFault
from detrec.engines.faults.chunk import UnalignedChunk
from detrec.engines.ops import Ops


class GreedyChunk(UnalignedChunk):
    """A prompt is cut where the step's budget ends, so that its neighbours decide, and attention shows it."""

    name = "greedy_chunk"
    summary = "a prompt is cut where the budget ends, once from `step` on, unless a schedule is forced"
    source = "vLLM #55612, pegainfer #688"
    number = (9,)
    expects = "the schedule differs before any tensor does; in --mode tokens or free"

    def __init__(self, notify: Callable[[str], None], *, step: int = 0) -> None:
        super().__init__(notify, step=step)

    def rule(self, rule: ChunkRule) -> ChunkRule:
        """Use the whole budget where the rule would not."""

        def whole_budget(position: int, remaining: int, budget: int, first: bool) -> int:
            count = rule(position, remaining, budget, first)
            most = greedy(position, remaining, budget, first)
            if self._cut is None and self._now.index + 1 >= self.from_step and count < most < remaining:
                self._cut = ("", position + most)
                return most
            return count

        return whole_budget

    def plan(self, plan: Scheduler) -> Scheduler:
        """The same: whoever forced it had another budget in mind."""
        return plan


class ResumeByPrefill(OpFault):
    """What decodes computed is computed again by a prefill, which adds up in another order."""

    name = "resume_by_prefill"
    summary = "op `op` of generated tokens run again after a preemption splits KV where the prompt ends"
    source = "vLLM #54993"
    cause = "kernel-choice"
    number = (10,)
    expects = "rows computed again after a preemption differ, by another kernel, and no others before them"
    acts_on = ("attn",)

    def __init__(self, notify: Callable[[str], None], *, step: int = 0, op: str = "0.attn") -> None:
        super().__init__(notify, step=step, op=op)
        self._prompts: dict[str, int] = {}
        self._resumed: set[str] = set()

    def requests(self, requests: Sequence[Request]) -> Sequence[Request]:
        """The same; the lengths of their prompts are kept."""
        self._prompts = {request.id: len(request.prompt) for request in requests}
        return requests

    def step(self, step: Step) -> None:
        """See who was preempted."""
        super().step(step)
        self._resumed |= {event.request for event in step.events if event.kind == EventKind.PREEMPTED}

    def equip(self, ops: Ops) -> Ops:
        """Let attention split there. Rows in front of it do not come so far."""
        from detrec.kernels.cpu.attention import KERNEL, attention

        def by_prefill(
            right: np.ndarray, q: np.ndarray, cache: np.ndarray, batch: Batch, scale: float
        ) -> np.ndarray | None:
            parts = parts_of(self._now, batch, cache.shape[1])
            cuts = np.array([self._end_of_prompt(part) for part in parts], np.int64)
            cuts[batch.positions < cuts] = 0
            if not cuts.any():
                return None
            wrong = np.empty_like(right)
            about = batch.block_tables, batch.row_seq, batch.positions
            attention(q, cache, *about, scale, wrong, cuts)
            return wrong

        kernel = f"{KERNEL} cut at the prompt's end"
        return replace(ops, attention=self.instead(ops.attention, by_prefill, kernel))

    def _end_of_prompt(self, part: Slice | None) -> int:
        """Of a prefill of somebody who was preempted; else 0."""
        again = part is not None and part.kind == Kind.PREFILL and part.request in self._resumed
        return self._prompts[part.request] if part is not None and again else 0

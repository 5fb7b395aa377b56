"""A chunk boundary off alignment, and attention that lets it show."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detrec.engines.base import Kind, Scheduler, Slice, Step
from detrec.engines.builtin.batch import Batch
from detrec.engines.builtin.chunking import ChunkRule
from detrec.engines.faults.base import Fault, FaultyOp
from detrec.engines.ops import Ops


class UnalignedChunk(Fault):
    """A chunk runs past its boundary, and attention splits KV where the next one starts."""

    name = "unaligned_chunk"
    summary = "a prompt is cut `by` tokens past its boundary, and attention partitions KV at the cut"
    source = "vLLM #55612, lmdeploy #1719"
    cause = "schedule"
    number = (9,)
    expects = "the schedule differs at a boundary before any tensor does; then attn of layer 0 there"

    def __init__(self, notify: Callable[[str], None], *, step: int = 0, by: int = 5) -> None:
        super().__init__(notify, step=step)
        self.by = by
        # request and position; the rule does not know whom it cuts, so the request is "" until the step runs
        self._cut: tuple[str, int] | None = None

    def step(self, step: Step) -> None:
        """See whom the rule has cut; nobody, where the blocks did not suffice: then it cuts again."""
        super().step(step)
        if self._cut is not None and not self._cut[0]:
            _, cut = self._cut
            whom = [part.request for part in step.slices if part.stop == cut and not part.samples]
            self._cut = (whom[0], cut) if whom else None

    def rule(self, rule: ChunkRule) -> ChunkRule:
        """Push the first boundary that is decided once the fault is armed."""

        def unaligned(position: int, remaining: int, budget: int, first: bool) -> int:
            count = rule(position, remaining, budget, first)
            if (
                self._cut is None
                and self._now.index + 1 >= self.from_step
                and 0 < count < remaining - self.by
            ):
                self._cut = ("", position + count + self.by)
                return count + self.by
            return count

        return unaligned

    def plan(self, plan: Scheduler) -> Scheduler:
        """Push the first boundary of the recorded schedule at or after the step."""
        steps = []
        while (step := plan.next_step()) is not None:
            steps.append(step)
        for index, step in enumerate(steps):
            if step.index >= self.from_step and self._cut is None:
                self._move(steps, index)
        return _Steps(steps)

    def _move(self, steps: list[Step], index: int) -> None:
        for part in steps[index].slices:
            later = [
                (i, s)
                for i in range(index + 1, len(steps))
                for s in steps[i].slices
                if s.request == part.request
            ]
            if part.samples or not later or later[0][1].start != part.stop:
                continue
            cut = part.stop + self.by
            if cut < later[0][1].stop:
                self._swap(steps, index, part, replace(part, stop=cut))
                self._swap(steps, later[0][0], later[0][1], replace(later[0][1], start=cut))
                self._cut = (part.request, cut)
                return

    @staticmethod
    def _swap(steps: list[Step], index: int, old: Any, new: Any) -> None:
        slices = tuple(new if part is old else part for part in steps[index].slices)
        steps[index] = replace(steps[index], slices=slices)

    def equip(self, ops: Ops) -> Ops:
        """Let attention cut KV where an unaligned chunk starts."""
        from detrec.kernels.cpu.attention import KERNEL, attention

        def partitioned(
            name: str, right: np.ndarray, q: np.ndarray, cache: np.ndarray, batch: Batch, scale: float
        ) -> np.ndarray | None:
            cuts = [part.start if self._starts_at_cut(part) else 0 for part in self._now.slices]
            if not any(cuts):
                return None
            wrong = np.empty_like(right)
            attention(
                *(q, cache, batch.block_tables, batch.row_seq, batch.positions, scale, wrong),
                np.asarray(cuts, np.int64)[batch.row_seq],
            )
            self.compare(name, right, wrong, self.rows())
            return wrong

        return replace(ops, attention=FaultyOp(ops.attention, partitioned, KERNEL + " cut at the chunk"))

    def _starts_at_cut(self, part: Slice) -> bool:
        return part.kind == Kind.PREFILL and (part.request, part.start) == self._cut


class _Steps:
    """A list of steps as a Scheduler."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = iter(steps)

    def next_step(self) -> Step | None:
        return next(self._steps, None)

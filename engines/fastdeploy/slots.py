"""What a FastDeploy worker runs in its slots, known on the host without asking the GPU.

Pure. FastDeploy schedules no decode: a slot goes on by itself until it is stopped. So a step is what the
tasks before it put into the slots, and how many tokens each slot runs now, which is on the host.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from detrec.engines.base import Event, EventKind, Kind, Slice, Step
from detrec.engines.fastdeploy.tasks import Task
from detrec.engines.hooks import Layout
from detrec.errors import EngineError


@dataclass(slots=True)
class _Slot:
    """A request in a slot: `position` is of its next row, `known` how many of its tokens are known."""

    request: str
    position: int
    known: int
    blocks: tuple[int, ...]
    prefilling: bool = True
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """A step as the slots tell it.

    `layout`: its rows among those that were launched, its samples among one row a slot. `drawing[i]` is the
    slot of sample i, and `positions[i]` where its row stands; `aborted` were ended from outside before it.
    """

    step: Step
    layout: Layout
    slots: tuple[int, ...]
    drawing: tuple[int, ...]
    positions: tuple[int, ...]
    aborted: tuple[Event, ...]


@dataclass(slots=True)
class Slots:
    """The slots of one worker, in blocks of `block_size` tokens."""

    block_size: int
    _slots: dict[int, _Slot] = field(default_factory=dict)
    _events: list[Event] = field(default_factory=list)
    _aborted: list[Event] = field(default_factory=list)

    def insert(self, task: Task) -> None:
        """Take in what FastDeploy's scheduler decided; raises EngineError for a task out of turn."""
        slot = self._slots.get(task.slot)
        if task.kind == "prefill":
            self._prefill(task, slot)
            return
        if slot is None or slot.request != task.request:
            # a request that has finished here while its task was on its way
            return
        if task.kind == "decode":
            slot.blocks = task.blocks
        elif task.kind == "preempted":
            self._events.append(Event(EventKind.PREEMPTED, task.request, slot.position))
            del self._slots[task.slot]
        elif task.kind == "abort":
            self._aborted.append(Event(EventKind.FINISHED, task.request, slot.tokens))
            del self._slots[task.slot]

    def _prefill(self, task: Task, slot: _Slot | None) -> None:
        goes_on = slot is not None and slot.request == task.request and slot.prefilling
        if goes_on and slot is not None and slot.position != task.start:
            raise EngineError(
                f"FastDeploy's request {task.request} in slot {task.slot}: its chunk begins at {task.start}, "
                f"the one before ended at {slot.position}"
            )
        if not goes_on and task.start:
            self._events.append(Event(EventKind.HIT, task.request, task.start))
        self._slots[task.slot] = _Slot(
            task.request, task.start, task.known, task.blocks, tokens=len(task.outputs)
        )

    def run(self, index: int, lengths: np.ndarray, launched: int, order: Mapping[int, int]) -> Running | None:
        """The step `index`: row i of FastDeploy's batch runs `lengths[i]` tokens; None where no row does.

        `launched`: how many rows the model is given. `order` says whose slot a row of the batch is, where it
        is not its own number (FD_PD_REORDER). Raises EngineError for a slot that no task filled.
        """
        lengths = np.asarray(lengths).reshape(-1)
        active = [int(row) for row in np.flatnonzero(lengths)]
        if not active:
            return None
        slices, drawing, positions = [], [], []
        for row in active:
            part = self._advance(order.get(row, row), int(lengths[row]))
            slices.append(part)
            if part.samples:
                drawing.append(row)
                positions.append(part.stop - 1)
        step = Step(index, tuple(slices), tuple(self._events))
        layout = Layout(launched, np.arange(step.rows), len(lengths), np.array(drawing, np.intp))
        aborted = tuple(self._aborted)
        self._events, self._aborted = [], []
        return Running(step, layout, tuple(active), tuple(drawing), tuple(positions), aborted)

    def _advance(self, number: int, length: int) -> Slice:
        slot = self._slots.get(number)
        if slot is None:
            raise EngineError(
                f"FastDeploy runs {length} tokens in slot {number}, where no task put a request",
                hint="is the plugin the only thing that changes FastDeploy's model runner?",
            )
        start, stop = slot.position, slot.position + length
        samples = stop >= slot.known
        block = start // self.block_size
        part = Slice(
            slot.request,
            start,
            stop,
            Kind.PREFILL if slot.prefilling else Kind.DECODE,
            samples,
            slot.blocks[block] if block < len(slot.blocks) else -1,
        )
        slot.position = stop
        if samples:
            slot.prefilling, slot.known, slot.tokens = False, stop + 1, slot.tokens + 1
        return part

    def generated(self, row: int, order: Mapping[int, int]) -> int:
        """How many tokens the request of this row of the batch has drawn."""
        slot = self._slots.get(order.get(row, row))
        return slot.tokens if slot else 0

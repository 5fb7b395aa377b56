"""What a fault is: a wrong path beside the right one, and where the two first differ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from detrec.engines.base import Request, Scheduler, Step
from detrec.engines.builtin.batch import Batch
from detrec.engines.builtin.blocks import BlockManager
from detrec.engines.builtin.chunking import ChunkRule
from detrec.engines.ops import Op, Ops
from detrec.kernels.group import Group

Bounds = dict[str, tuple[int, int]]
"""The least and the most that a parameter may be."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where a fault first changed a bit; `rank` of one that acts on one rank of several."""

    step: int
    request: str
    position: int
    name: str
    rank: int | None = None

    def __str__(self) -> str:
        layer, _, op = self.name.rpartition(".")
        where = f"layer {layer}, op {op}" if layer else f"op {op}"
        rank = "" if self.rank is None else f", rank {self.rank}"
        return f"step {self.step}, request {self.request}, position {self.position}, {where}{rank}"


class Fault:
    """A cause of divergence; `step` is the first step at which it acts.

    A subclass overrides what it breaks: requests, KV blocks, the rule that cuts prompts, a recorded plan, the
    arrays of a step, or the Ops table. What follows the shape of an op's arguments is taken from these, and
    what the engine decides for a step from `step`: an op that is run again on other rows then does as it
    would have.
    """

    name: str = ""
    summary: ClassVar[str]
    source: ClassVar[str]
    cause: ClassVar[str]
    number: ClassVar[tuple[int, ...]] = ()
    """Rows of the fault catalogue that it stands for."""
    expects: ClassVar[str] = ""
    """What must be seen of it, besides where and of what class."""
    acts_on: ClassVar[tuple[str, ...]] = ()
    """The bare names that its parameter `op` may have; empty: every op."""
    bounds: ClassVar[Bounds] = {}
    """Where not 0 to 2^31 - 1."""
    least_ranks: ClassVar[int] = 0
    """How many ranks it needs at least; 0: it acts on one rank, and knows of no others."""
    one_rank: ClassVar[bool] = False
    """It can act on one rank of several, which its parameter `rank` names."""
    together: ClassVar[tuple[str, ...]] = ()
    """Ops, by bare names, that it runs again and ranks run together: no rank can have it there."""

    group: Group | None = None
    """The ranks of the engine that it is in, from before `equip` on; None where there is one."""
    rank: int | None = None
    """The one rank that it acts on, where that was named."""

    def __init__(self, notify: Callable[[str], None], *, step: int = 0) -> None:
        self.from_step = step
        self.sighting: Sighting | None = None
        self._notify = notify
        self._now = Step(-1, ())

    @property
    def armed(self) -> bool:
        """The step that runs now is one that the fault is for."""
        return self._now.index >= self.from_step

    def step(self, step: Step) -> None:
        """A forward pass begins."""
        self._now = step

    def end(self) -> None:
        """The run is over: a fault that never acted must not be taken for one that does no harm."""
        if self.name and self.sighting is None:
            self._notify(f"fault {self.name}: changed no bit in this run")

    def requests(self, requests: Sequence[Request]) -> Sequence[Request]:
        """What is to be run, with this fault in it."""
        return requests

    def blocks(self, blocks: BlockManager) -> BlockManager:
        """Who gives out KV blocks, none given yet, with this fault in it."""
        return blocks

    def batch(self, batch: Batch) -> Batch:
        """The arrays of the step that has begun, with this fault in them."""
        return batch

    def equip(self, ops: Ops) -> Ops:
        """The operations with this fault in them."""
        return ops

    def rule(self, rule: ChunkRule) -> ChunkRule:
        """The rule that cuts prompts, with this fault in it."""
        return rule

    def plan(self, plan: Scheduler) -> Scheduler:
        """A recorded schedule, with this fault in it."""
        return plan

    def compare(
        self, name: str, right: np.ndarray, wrong: np.ndarray, rows: Sequence[tuple[str, int]]
    ) -> None:
        """Remember and tell the first of `rows` whose bits differ."""
        if self.sighting is None:
            a, b = (x.reshape(len(x), -1).view(np.uint8).reshape(len(x), -1) for x in (right, wrong))
            changed = np.flatnonzero((a != b).any(axis=1))
            if len(changed):
                request, position = rows[changed[0]]
                self.sighting = Sighting(self._now.index, request, position, name, self.rank)
                self._notify(f"fault {self.name}: first bit changed at {self.sighting}")

    def rows(self) -> list[tuple[str, int]]:
        """(request, position) of every row of the step that runs now."""
        return [(part.request, p) for part in self._now.slices for p in range(part.start, part.stop)]

    def sample_rows(self) -> list[tuple[str, int]]:
        """(request, position) of every row that samples in the step that runs now."""
        return [(part.request, part.stop - 1) for part in self._now.slices if part.samples]

    def rows_of(self, name: str) -> list[tuple[str, int]]:
        """(request, position) of every row of op `name`; only rows that sample have logits."""
        return self.sample_rows() if name == "logits" else self.rows()


class FaultyOp:
    """An op that another one stands in for; `kernel` names whichever ran last.

    `wrong` takes name, right output and arguments, and gives the wrong output, or None to leave the right
    one. `kernel` names what it runs, or is asked after it ran; "": the same kernel, which does other things.
    """

    def __init__(self, right: Op, wrong: Callable[..., Any], kernel: str | Callable[[], str] = "") -> None:
        self._right, self._wrong, self._kernel = right, wrong, kernel
        self.kernel = right.kernel

    def __call__(self, name: str, *args: Any) -> Any:
        output = self._right(name, *args)
        wrong = self._wrong(name, output, *args)
        self.kernel = self._right.kernel
        if wrong is None:
            return output
        other = self._kernel if isinstance(self._kernel, str) else self._kernel()
        self.kernel = other or self.kernel
        return wrong


class OpFault(Fault):
    """A fault of the one op that its parameter `op` names."""

    def __init__(self, notify: Callable[[str], None], *, step: int, op: str) -> None:
        super().__init__(notify, step=step)
        self.op = op

    def instead(
        self, right: Op, wrong: Callable[..., np.ndarray | None], kernel: str | Callable[[], str] = ""
    ) -> FaultyOp:
        """`right`, in whose place `wrong` stands where it is `op` and the fault acts, and is compared.

        `wrong` takes the right output and the arguments, and gives the wrong output, or None to leave the
        right one; `kernel` is that of a FaultyOp.
        """

        def run(name: str, output: np.ndarray, *args: Any) -> np.ndarray | None:
            if not self.armed or name != self.op:
                return None
            given = wrong(output, *args)
            if given is not None:
                self.compare(name, output, given, self.rows_of(name))
            return given

        return FaultyOp(right, run, kernel)

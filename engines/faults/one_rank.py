"""A fault on one rank of several, as one machine's memory, processor or build is at fault and no other's."""

import json
from collections.abc import Callable

from detrec.engines.base import SAMPLE_OPS, Step
from detrec.engines.builtin.batch import Batch
from detrec.engines.builtin.blocks import BlockManager
from detrec.engines.faults.base import Fault
from detrec.engines.ops import Ops
from detrec.errors import ConfigError


class OnOneRank(Fault):
    """`fault` on rank `rank`, and nothing on the others; every rank has one of these.

    What the fault tells, which `told` collects on its rank, rank 0 tells `notify` at the end of the run.
    """

    def __init__(self, fault: Fault, rank: int, told: list[str], notify: Callable[[str], None]) -> None:
        super().__init__(notify, step=fault.from_step)
        self.name, self.rank = fault.name, rank
        self.fault, self._told = fault, told
        fault.rank = rank
        self._here = False

    def check_ranks(self, size: int) -> None:
        """Raise ConfigError where there is no such rank, or where it does not do that op by itself."""
        assert self.rank is not None, "it was given one"
        if self.rank >= size:
            raise ConfigError(
                f"--fault {self.name}: rank: expected 0 to {size - 1}, got {self.rank}",
                hint=f"engine.tensor_parallel_size is {size}",
            )
        op = getattr(self.fault, "op", "")
        if size > 1 and (op in SAMPLE_OPS or op in self.fault.together):
            raise ConfigError(
                f"--fault {self.name}: rank {self.rank} does not do {op} by itself: all ranks do, and go on "
                "with one result",
                hint="name an op of a layer",
            )

    def step(self, step: Step) -> None:
        """A forward pass begins."""
        super().step(step)
        self.fault.step(step)

    def end(self) -> None:
        """The run is over: rank 0 hears of it, and tells."""
        if self._here:
            self.fault.end()
        told = self._told
        if self.group is not None:
            from detrec.kernels.cpu.group import CpuGroup

            assert isinstance(self.group, CpuGroup), "an engine of several ranks on a CPU has one"
            every = self.group.meeting.exchange(json.dumps(told).encode())
            told = json.loads(every[self.rank or 0]) if self.group.rank == 0 else []
        for text in told:
            self._notify(text)

    def blocks(self, blocks: BlockManager) -> BlockManager:
        """The same: what one rank gives out, all do."""
        return self.fault.blocks(blocks)

    def batch(self, batch: Batch) -> Batch:
        """The arrays of the step; wrong ones on its rank."""
        return self.fault.batch(batch) if self._here else batch

    def equip(self, ops: Ops) -> Ops:
        """The operations; wrong ones on its rank."""
        self._here = (self.group.rank if self.group else 0) == self.rank
        return self.fault.equip(ops) if self._here else ops

"""Steps on the CPU: numba kernels over memory that the framework owns."""

from collections.abc import Callable, Collection

import numba
import numpy as np

from detrec.config import EngineConfig
from detrec.engines.base import Probe, Progress
from detrec.engines.builtin.batch import Batch
from detrec.engines.builtin.cpu_ops import CPU_RANKS, cpu_ops
from detrec.engines.builtin.cut import Cut
from detrec.engines.builtin.loading import CpuPlacement, load_decoder, storage
from detrec.engines.builtin.parallel import Parallel, parallel_ops
from detrec.engines.builtin.runner import Sampling, step_bytes
from detrec.engines.builtin.vendor import vendor_ops
from detrec.engines.builtin.weights import Checkpoint
from detrec.engines.ops import Ops, watched
from detrec.kernels.cpu.group import CpuGroup
from detrec.kernels.device import Device
from detrec.kernels.group import Group
from detrec.kernels.rendezvous import Rendezvous
from detrec.kernels.workspace import Workspace


class CpuRunner:
    """A Runner. `equip` may break the Ops table; `largest`: rows, and rows that sample, of a step.

    Of several ranks, `meeting` is where they meet, and each has one thread.
    """

    device: Device | None = None

    def __init__(
        self,
        engine: EngineConfig,
        checkpoint: Checkpoint,
        num_blocks: int,
        largest: tuple[int, int],
        equip: Callable[[Ops, Group | None], Ops],
        progress: Progress | None = None,
        meeting: Rendezvous | None = None,
    ) -> None:
        self._rank = meeting.rank if meeting else 0
        self._cut = cut = Cut(checkpoint.config, self._rank, meeting.world_size if meeting else 1)
        # nobody asks another rank for a tensor, and to import a framework takes half of its start
        owner = "numpy" if self._rank and engine.deterministic else engine.framework
        place = CpuPlacement(owner)
        self.decoder = load_decoder(checkpoint, engine, num_blocks, place, progress, cut)
        self._itemsize = storage(engine.dtype).itemsize
        self._reduced = meeting is not None or engine.reduction == "tp_invariant"
        self._workspace = Workspace(owner, self._step_bytes(*largest))
        self._group = CpuGroup(meeting, self._message_bytes(*largest)) if meeting else None
        self._threads = numba.get_num_threads()
        if meeting:
            numba.set_num_threads(1)
        dtype = storage(engine.dtype)
        ops = cpu_ops(self._workspace, dtype)
        if not engine.deterministic:
            ops = vendor_ops(ops, engine.framework)
        parallel = Parallel(self._group, engine.reduction, checkpoint.config.vocab_size)
        ops = parallel_ops(ops, CPU_RANKS, self._workspace.empty, dtype, parallel)
        self.ops = equip(ops, self._group)
        self._watched = self.ops

    def manifest(self) -> dict[str, str]:
        """The environment's manifest names the CPU."""
        return {"kind": "cpu"}

    def watch(self, probe: Probe | None, names: Collection[str]) -> None:
        """From the next batch on, tell `probe` of the ops in `names`."""
        self._watched = watched(self.ops, probe, names, self._rank) if probe and names else self.ops

    def reserve(self, rows: int, samples: int) -> None:
        """Room for ops on that many rows, outside of any batch; what the latest batch gave is lost."""
        self._workspace.begin(self._step_bytes(rows, samples))
        if self._group:
            self._group.reserve(self._message_bytes(rows, samples))

    def run(self, batch: Batch, sampling: Sampling | None) -> np.ndarray:
        """Compute `batch`; SAMPLE_DTYPE [S]."""
        ops = self._watched
        # a layer's input is needed until its middle, so a layer's worth of memory keeps it
        rows, drawn = len(batch.tokens), len(batch.sample_rows)
        self._workspace.begin(self._step_bytes(rows, drawn))
        if self._group:
            self._group.reserve(self._message_bytes(rows, drawn))
        hidden = self.decoder.hidden(ops, batch)
        if sampling is None:
            return np.empty(0)
        samples: np.ndarray = self.decoder.sample(
            ops, hidden[batch.sample_rows], sampling.penalties, sampling.draws
        )
        return samples

    def _step_bytes(self, rows: int, samples: int) -> int:
        return step_bytes(self.decoder.config, self._itemsize, rows, samples, reduced=self._reduced)

    def _message_bytes(self, rows: int, samples: int) -> int:
        """The longest that the ranks send each other in a step: a row of each, or a row's logits."""
        return 4 * max(rows * self._cut.model.hidden_size, samples * self._cut.vocab_part)

    def close(self) -> None:
        """Give the threads back that ranks do not use."""
        numba.set_num_threads(self._threads)

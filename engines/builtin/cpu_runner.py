"""Steps on the CPU: numba kernels over memory that the framework owns."""

from collections.abc import Callable, Collection

import numpy as np

from detrec.config import EngineConfig
from detrec.engines.base import Probe
from detrec.engines.builtin.batch import Batch
from detrec.engines.builtin.cpu_ops import cpu_ops
from detrec.engines.builtin.loading import CpuPlacement, Progress, load_decoder, storage
from detrec.engines.builtin.runner import Sampling, step_bytes
from detrec.engines.builtin.vendor import vendor_ops
from detrec.engines.builtin.weights import Checkpoint
from detrec.engines.ops import Ops, watched
from detrec.kernels.device import Device
from detrec.kernels.workspace import Workspace


class CpuRunner:
    """A Runner. `equip` may break the Ops table; `largest`: rows, and rows that sample, of a step."""

    device: Device | None = None

    def __init__(
        self,
        engine: EngineConfig,
        checkpoint: Checkpoint,
        num_blocks: int,
        largest: tuple[int, int],
        equip: Callable[[Ops], Ops],
        progress: Progress | None = None,
    ) -> None:
        self.decoder = load_decoder(checkpoint, engine, num_blocks, CpuPlacement(engine.framework), progress)
        self._itemsize = storage(engine.dtype).itemsize
        self._workspace = Workspace(engine.framework, self._step_bytes(*largest))
        ops = cpu_ops(self._workspace, storage(engine.dtype))
        self.ops = equip(ops if engine.deterministic else vendor_ops(ops, engine.framework))
        self._watched = self.ops

    def manifest(self) -> dict[str, str]:
        """The environment's manifest names the CPU."""
        return {"kind": "cpu"}

    def watch(self, probe: Probe | None, names: Collection[str]) -> None:
        """From the next batch on, tell `probe` of the ops in `names`."""
        self._watched = watched(self.ops, probe, names) if probe and names else self.ops

    def reserve(self, rows: int, samples: int) -> None:
        """Room for ops on that many rows, outside of any batch; what the latest batch gave is lost."""
        self._workspace.begin(self._step_bytes(rows, samples))

    def run(self, batch: Batch, sampling: Sampling | None) -> np.ndarray:
        """Compute `batch`; SAMPLE_DTYPE [S]."""
        ops = self._watched
        # a layer's input is needed until its middle, so a layer's worth of memory keeps it
        self._workspace.begin(self._step_bytes(len(batch.tokens), len(batch.sample_rows)))
        hidden = self.decoder.hidden(ops, batch)
        if sampling is None:
            return np.empty(0)
        samples: np.ndarray = self.decoder.sample(
            ops, hidden[batch.sample_rows], sampling.penalties, sampling.draws
        )
        return samples

    def _step_bytes(self, rows: int, samples: int) -> int:
        return step_bytes(self.decoder.config, self._itemsize, rows, samples)

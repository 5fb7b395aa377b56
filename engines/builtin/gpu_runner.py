"""Steps on a GPU: decodes as CUDA graphs, everything else launch by launch.

A step costs one copy to the device, one copy back, and one wait for the latter; watching it adds none, and
what the watcher has to write it writes before that wait.
"""

from collections.abc import Collection, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from detrec.config import EngineConfig
from detrec.engines.base import GraphProbe, Probe, Progress
from detrec.engines.builtin.batch import Batch
from detrec.engines.builtin.cut import Cut
from detrec.engines.builtin.gpu_inputs import (
    DeviceBatch,
    GraphInputs,
    Inputs,
    arrays_of,
    device_batch,
    device_sampling,
)
from detrec.engines.builtin.gpu_ops import GPU_RANKS, gpu_ops
from detrec.engines.builtin.gpu_placement import GpuPlacement
from detrec.engines.builtin.gpu_vendor import gpu_vendor_ops, whole_slices, without
from detrec.engines.builtin.loading import load_decoder
from detrec.engines.builtin.parallel import Parallel, parallel_ops
from detrec.engines.builtin.runner import Sampling, step_bytes
from detrec.engines.builtin.weights import Checkpoint
from detrec.engines.ops import watched
from detrec.errors import EngineError
from detrec.kernels import cuda
from detrec.kernels.cpu.sample import SAMPLE_DTYPE
from detrec.kernels.device import Device
from detrec.kernels.device_array import ITEMSIZE, DeviceArray
from detrec.kernels.device_group import DeviceGroup
from detrec.kernels.gpu.attention import AttentionPlan, plan_decode, plan_step, scratch_bytes
from detrec.kernels.gpu.rows import gather_rows
from detrec.kernels.gpu.sample import scratch_bytes as sampling_bytes
from detrec.kernels.launch import on_stream
from detrec.kernels.rendezvous import Rendezvous
from detrec.kernels.workspace import DeviceWorkspace

HANG_S = 30.0
"""How long a rank's kernels wait for another's, which may be compiling what this one has: a rank that died is
known much sooner.
"""


@dataclass(frozen=True, slots=True)
class _Captured:
    """A graph of steps of decodes, where its inputs are put and where its samples come out."""

    graph: cuda.Graph
    inputs: GraphInputs
    samples: DeviceArray
    # what the graph's launches point into
    scratch: DeviceArray


class GpuRunner:
    """A Runner. `largest`: rows, and rows that sample, to expect of a step.

    Of several ranks, `meeting` is where they meet, and each has a GPU of its own.
    """

    def __init__(
        self,
        engine: EngineConfig,
        checkpoint: Checkpoint,
        num_blocks: int,
        largest: tuple[int, int],
        progress: Progress | None = None,
        meeting: Rendezvous | None = None,
    ) -> None:
        self._rank = meeting.rank if meeting else 0
        self.device = Device(engine.framework, f"{engine.device}:{self._rank}")
        self._engine = engine
        self._cut = cut = Cut(checkpoint.config, self._rank, meeting.world_size if meeting else 1)
        place = GpuPlacement(self.device)
        self.decoder = load_decoder(checkpoint, engine, num_blocks, place, progress, cut)
        self._reduced = meeting is not None or engine.reduction == "tp_invariant"
        self._workspace = DeviceWorkspace(engine.framework, self.device.name, self._step_bytes(*largest))
        self._group = (
            DeviceGroup(meeting, self.device, self._message_bytes(*largest), HANG_S) if meeting else None
        )
        ops = gpu_ops(self.device, self._workspace, engine.dtype, self.decoder.config.head_dim)
        if not engine.deterministic:
            about = self.device, self._workspace, engine.dtype, self.decoder.config.head_dim
            ops = gpu_vendor_ops(ops, *about)
        parallel = Parallel(self._group, engine.reduction, checkpoint.config.vocab_size)
        self.ops = parallel_ops(ops, GPU_RANKS, self._workspace.empty, engine.dtype, parallel)
        self._watched = self.ops
        self._probe: GraphProbe | None = None
        self._inputs = Inputs(self.device)
        self._scratch = self.device.empty((0,), "uint8")
        self._results = cuda.pinned(SAMPLE_DTYPE.itemsize * max(largest[1], 1)).view(SAMPLE_DTYPE)
        self._done = cuda.Event()
        self._graphs: dict[int, _Captured] = {}
        self._seen: set[int] = set()

    def manifest(self) -> dict[str, str]:
        """The GPU, its driver and its runtime."""
        return {"kind": "gpu", **cuda.describe(self.device.index)}

    def watch(self, probe: Probe | None, names: Collection[str]) -> None:
        """From the next batch on, tell `probe`, which must be a GraphProbe, of the ops in `names`."""
        watching = probe if names else None
        assert watching is None or isinstance(watching, GraphProbe), "steps are captured as graphs"
        self._probe = watching
        self._watched = watched(self.ops, watching, names, self._rank) if watching else self.ops
        # they report to whoever watched when they were captured
        self._graphs.clear()
        self._seen.clear()

    def reserve(self, rows: int, samples: int) -> None:
        """Room for ops on that many rows, outside of any batch; what the latest batch gave is lost."""
        self._workspace.begin(self._step_bytes(rows, samples))

    def close(self) -> None:
        """The framework has the memory, and gives it back; the ranks' for each other ends with them."""
        if self._group:
            self._group.leave()

    def run(self, batch: Batch, sampling: Sampling | None) -> np.ndarray:
        """Compute `batch`; SAMPLE_DTYPE [S]. Waits once, for the samples."""
        stream, samples = self.device.stream, len(batch.sample_rows)
        if samples > len(self._results):
            self._results = cuda.pinned(SAMPLE_DTYPE.itemsize * samples).view(SAMPLE_DTYPE)
        if self._group:
            self._group.reserve(self._message_bytes(len(batch.tokens), samples))
        with on_stream(stream.handle):
            if self._engine.use_cudagraph and sampling is not None and len(batch.tokens) == samples:
                drawn: DeviceArray | None = self._run_decodes(batch, sampling)
            else:
                drawn = self._run_eagerly(batch, sampling)
        if drawn is not None:
            stream.copy_to_host(self._results[:samples].view(np.int64), drawn[:samples].reshape(4 * samples))
        self._done.record(stream)
        if self._probe is not None:
            self._probe.meanwhile()
        self._done.wait()
        if self._group:
            self._group.check()
        return self._results[:samples].copy()

    def _run_eagerly(self, batch: Batch, sampling: Sampling | None) -> DeviceArray | None:
        config = self.decoder.config
        whole = () if self._engine.deterministic else whole_slices(batch)
        group = config.num_heads // config.num_kv_heads
        plan = plan_step(without(batch.row_seq, whole), batch.positions, group)
        self._workspace.begin(self._step_bytes(len(batch.tokens), len(batch.sample_rows)))
        needed = self._scratch_bytes(plan)
        if needed > len(self._scratch):
            self._scratch = self.device.empty((needed,), "uint8")
        twins = self._inputs.send({"table": plan.table} | arrays_of(batch, sampling))
        return self._forward(twins, device_batch(twins, plan, self._scratch, whole), sampling is not None)

    def _run_decodes(self, batch: Batch, sampling: Sampling) -> DeviceArray | None:
        """By a graph that fits: one that is there and not twice too large, else one of its own.

        To capture takes as long as several steps, so a number of rows that comes once is run as it is.
        """
        count = len(batch.tokens)
        own = graph_rows(count)
        fitting = [rows for rows in self._graphs if count <= rows <= 2 * own]
        if not fitting and own not in self._seen:
            self._seen.add(own)
            return self._run_eagerly(batch, sampling)
        return self._run_graph(min(fitting, default=own), batch, sampling)

    def _run_graph(self, rows: int, batch: Batch, sampling: Sampling) -> DeviceArray:
        captured, arrays = self._graphs.get(rows), arrays_of(batch, sampling)
        # every row samples, here and in the graph
        del arrays["sample_rows"]
        if captured is None or not captured.inputs.fits(arrays):
            captured = self._graphs[rows] = self._capture(rows, arrays)
        else:
            captured.inputs.send(arrays)
        if self._probe is not None:
            self._probe.replaying(rows)
        self.device.stream.run(captured.graph)
        return captured.samples

    def _capture(self, rows: int, arrays: Mapping[str, np.ndarray]) -> _Captured:
        stream, engine = self.device.stream, self._engine
        plan = plan_decode(rows, engine.max_model_len)
        # a penalised row lists every token it has seen, a ban those that would end it
        room = dict.fromkeys(("ids", "output_counts", "in_prompt"), rows * engine.max_model_len)
        # more bans than this are rare enough for another capture
        room["ban_ids"] = max(8 * rows, 2 * len(arrays["ban_ids"]))
        fixed = {"table": plan.table, "sample_rows": np.arange(rows)}
        blocks = -(-engine.max_model_len // engine.block_size)
        inputs = GraphInputs(self.device, rows, blocks, fixed, arrays, room)
        inputs.send(arrays)
        scratch = self.device.empty((max(self._scratch_bytes(plan), 1),), "uint8")

        # where there is memory for it, nothing is overwritten within a step
        whole = self._step_bytes(rows, rows, layers=self.decoder.config.num_layers)
        lasting = self._group is None and self._workspace.holds(whole)

        def forward() -> DeviceArray:
            self._workspace.begin(whole if lasting else self._step_bytes(rows, rows))
            with self._probe.capturing(rows, lasting=lasting) if self._probe else nullcontext():
                drawn = self._forward(inputs.twins, device_batch(inputs.twins, plan, scratch), True)
            assert drawn is not None
            return drawn

        if self._probe is not None and rows in self._graphs:
            # captured anew: its fingerprints of the step before may still be on their way to the host
            self._probe.replaying(rows)
        # run once as it is: kernels are compiled at their first launch, which must not be captured
        forward()
        stream.begin_capture()
        try:
            samples = forward()
        except BaseException:
            # a capture that stays open would refuse whatever is asked of the GPU next
            with suppress(EngineError):
                stream.end_capture()
            raise
        return _Captured(stream.end_capture(), inputs, samples, scratch)

    def _forward(self, twins: dict[str, DeviceArray], batch: DeviceBatch, draws: bool) -> DeviceArray | None:
        ops = self._watched
        hidden = self.decoder.hidden(ops, batch)
        if not draws:
            return None
        chosen = self._workspace.empty((len(batch.sample_rows), hidden.shape[1]), hidden.dtype)
        gather_rows(hidden, batch.sample_rows, chosen)
        drawn: Any = self.decoder.sample(ops, chosen, *device_sampling(twins))
        return drawn

    def _step_bytes(self, rows: int, samples: int, layers: int = 0) -> int:
        """What a layer or the drawing of tokens takes; with `layers`, what all of them take together."""
        config = self.decoder.config
        size = ITEMSIZE[self._engine.dtype]
        needed = step_bytes(config, size, rows, samples, reduced=self._reduced)
        if layers:
            needed += (layers + 1) * step_bytes(config, size, rows, 0, reduced=self._reduced)
        return needed + (sampling_bytes(samples, config.vocab_size) if samples else 0)

    def _message_bytes(self, rows: int, samples: int) -> int:
        """The longest that the ranks sum in a step: a row of each."""
        return 4 * max(rows, 1) * self._cut.model.hidden_size

    def _scratch_bytes(self, plan: AttentionPlan) -> int:
        config = self.decoder.config
        return scratch_bytes(plan, config.num_heads, config.num_kv_heads, config.head_dim)


def graph_rows(rows: int) -> int:
    """How many rows the graph has that runs `rows` decodes: a power of two up to 8, then a multiple of 8."""
    return 1 << (rows - 1).bit_length() if rows <= 8 else -(-rows // 8) * 8

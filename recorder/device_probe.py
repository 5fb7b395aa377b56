"""DeviceProbe: fingerprints a GPU's activations where they are, and writes a step when its copy has arrived.

Nothing here makes the engine wait for the GPU: fingerprints are computed in the engine's stream and copied by
a stream of their own. Where a graph's outputs last, they are computed behind it, when the GPU is idle because
the host prepares the next step; else in the graph, layer by layer. A step is written while the GPU computes a
later one and the engine's thread has nothing to do: a thread of its own would fight for Python's lock just
when the engine has a step to prepare, which was measured to cost a fifth of the decoding speed.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from detrec.engines.base import SAMPLE_OPS, Event, Sample, Step
from detrec.engines.hooks import Layout, Outputs
from detrec.kernels import cuda
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.fingerprint import fingerprint
from detrec.kernels.gpu.fingerprint_many import fingerprints
from detrec.kernels.gpu.share_fingerprint import ShareTable, share_fingerprints, share_table
from detrec.kernels.launch import on_stream
from detrec.kernels.share import Share
from detrec.recorder.device_outputs import Together
from detrec.recorder.device_region import Lines, Placed, Region
from detrec.recorder.steps import Record, StepWriter

# steps that may be on their way to the trace before the oldest is waited for
_SLOTS = 8


@dataclass(slots=True)
class _Slot:
    """Pinned memory for one step's fingerprints and sketches, and the mark behind its copy."""

    event: cuda.Event
    memory: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    sketches: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A step that is over; its fingerprints are in `slot` once the slot's event has come."""

    step: Step
    tokens: np.ndarray
    layout: Layout
    region: Region
    graph: int
    slot: _Slot
    samples: Sequence[Sample]
    events: Sequence[Event]
    seconds: float


class DeviceProbe:
    """A GraphProbe that records the ops named in `ops`, those of `writer` in their order, of one rank.

    `shares`: by op, what this rank holds of rows that are cut over ranks. `at_once`: the engine does not keep
    its outputs as they are for a layer, so that each is fingerprinted when it is told. `meanwhile` writes
    what has arrived, `finish` all that is on its way.
    """

    def __init__(
        self,
        writer: StepWriter,
        ops: Sequence[str],
        device: Device,
        *,
        shares: Mapping[str, Share] | None = None,
        at_once: bool = False,
    ) -> None:
        self._writer, self._device, self._at_once = writer, device, at_once
        self._lines = Lines(ops)
        self._shares = self._table([ops[index] for index in self._lines.of_rows.tolist()], shares or {})
        self._eager = [self._region(0, 0), self._region(0, 0)]
        self._together = Together(device, self._lines)
        self._graphs: dict[int, Region] = {}
        self._now: Region | None = None
        self._sent: _Slot | None = None
        self._graph = 0
        self._running = False
        # outputs of the graph that is captured, with their places: of rows, and of rows that sample
        self._lasting: tuple[Placed, Placed] | None = None
        self._batch: list[DeviceArray] = []
        self._first = (0, False)
        self._copies, self._computed = cuda.Stream(), cuda.Event()
        self._free: list[_Slot] = []
        self._arrived: deque[_Arrived] = deque()
        # fresh memory takes longer to touch than to fill
        self._by_op = np.empty(0, np.uint64)

    def _table(self, ops: Sequence[str], shares: Mapping[str, Share]) -> ShareTable | None:
        assert not shares.keys() & set(SAMPLE_OPS), "an op on rows that sample is cut over ranks"
        return share_table([shares.get(op) for op in ops], self._device) if shares else None

    def _region(self, rows: int, samples: int) -> Region:
        size, parts = self._lines.size(rows, samples), self._writer.sketch_parts
        array = self._device.empty((size,), "uint64")
        sketches = self._device.empty((size * parts,), "float32") if parts else None
        return Region(
            self._lines,
            rows,
            samples,
            array,
            self._no_kernels(),
            cuda.Event(),
            sketches,
            [False] * len(self._lines.places),
        )

    def _no_kernels(self) -> list[str]:
        return [""] * len(self._lines.places)

    def step(self, step: Step, tokens: Sequence[int] | np.ndarray) -> None:
        """A forward pass begins."""
        self._started = time.perf_counter()
        self._step, self._tokens = step, np.asarray(tokens)
        self._now, self._sent, self._batch, self._graph = None, None, [], 0
        self._running, samples = True, len(step.sample_rows)
        self._layout = Layout(step.rows, np.arange(step.rows), samples, np.arange(samples))

    def place(self, layout: Layout) -> None:
        """Outputs of the step have rows that are not its own: theirs are left out on the host."""
        self._layout = layout

    def _open(self) -> Region:
        """The region of the step that runs; it is not run by a graph, else `replaying` had opened one."""
        if self._now is None:
            # two by turns: while one is copied to the host the next step fills the other
            self._eager.reverse()
            self._together.begin()
            region, rows, samples = self._eager[0], self._layout.launched, self._layout.drawn
            if self._lines.size(rows, samples) > region.array.count:
                region = self._region(rows, samples)
            else:
                about = region.array, self._no_kernels(), region.copied, region.sketches
                region = Region(self._lines, rows, samples, *about, [False] * len(self._lines.places))
            self._now = self._eager[0] = region
            self._device.stream.wait_for(region.copied)
            region.clear(self._device)
        return self._now

    @contextmanager
    def capturing(self, rows: int, *, lasting: bool) -> Iterator[None]:
        """Ops reported inside are those of the graph of `rows` rows."""
        if rows not in self._graphs:
            self._graphs[rows] = self._region(rows, rows)
        # what is cut over ranks has no table yet, and sketches have none
        lasting = lasting and self._shares is None and not self._writer.sketch_parts
        before, region = self._now, self._graphs[rows]
        self._now, self._batch, self._lasting = region, [], ([], []) if lasting else None
        if not lasting:
            region.clear(self._device)
        yield
        self._flush()
        if self._lasting is not None:
            region.tabulate(self._device, self._lasting)
        self._now, self._lasting = before, None

    def replaying(self, rows: int) -> None:
        """The step that has begun is run by that graph."""
        self._now, self._graph = self._graphs[rows], rows
        if not self._now.tables:
            # the GPU waits, not the engine
            self._device.stream.wait_for(self._now.copied)

    def op(self, name: str, output: DeviceArray, rank: int, kernel: str) -> None:
        """Fingerprint `output`, a row at a time, together with what follows it in its layer or its graph."""
        at = self._lines.places[name]
        region = self._open()
        region.kernels[at.index] = kernel
        if self._lasting is not None:
            self._lasting[at.samples].append((at.place, output))
            return
        if self._batch and self._first != (at.place - len(self._batch), at.samples):
            self._flush()
        if not self._batch:
            self._first = (at.place, at.samples)
        self._batch.append(output)
        if region.sketches is not None:
            with on_stream(self._device.stream.handle):
                region.sketch(at.samples, at.place, at.index, output)
        # outputs stay where they are for a layer, and no longer
        if self._at_once or at.samples or "." not in name or name.endswith(".output"):
            self._flush()

    def outputs(self, some: Outputs, addresses: Sequence[int]) -> None:
        """Fingerprint what the ops of `some` gave, which lies at `addresses`, in one launch."""
        region = self._open()
        if self._shares is not None or region.sketches is not None:
            for output, address in zip(some.ops, addresses, strict=True):
                self.op(output.name, output.at(address, some.rows), 0, output.kernel)
            self._flush()
            return
        self._together.fingerprint(region, some, addresses)

    def _flush(self) -> None:
        if not self._batch:
            return
        (place, samples), count = self._first, len(self._batch)
        out = self._open().part(samples)[place : place + count]
        with on_stream(self._device.stream.handle):
            if self._shares and not samples and any(self._shares.lengths[place : place + count]):
                share_fingerprints(self._batch, self._shares, place, out)
            elif samples and count == 1:
                fingerprint(self._batch[0], out[0])
            else:
                fingerprints(self._batch, out)
        self._batch = []

    def meanwhile(self) -> None:
        """The engine has given its step to the GPU: send for its fingerprints, write those that are here."""
        if self._running and self._sent is None:
            self._sent = self._send()
        while self._arrived and self._arrived[0].slot.event.done():
            self._write_oldest()

    def _send(self) -> _Slot:
        """Queue the fingerprints of what a graph left, and the copy of all of the step's; gives where to."""
        self._flush()
        region, slot, stream = self._open(), self._slot(), self._device.stream
        size = region.size
        if region.tables:
            stream.wait_for(region.copied)
        with on_stream(stream.handle):
            region.fill()
        if size > len(slot.memory):
            slot.memory = cuda.pinned(8 * size).view(np.uint64)
        self._computed.record(stream)
        self._copies.wait_for(self._computed)
        self._copies.copy_to_host(slot.memory[:size], region.array[:size])
        if region.sketches is not None:
            count = size * self._writer.sketch_parts
            if count > len(slot.sketches):
                slot.sketches = cuda.pinned(4 * count).view(np.float32)
            self._copies.copy_to_host(slot.sketches[:count], region.sketches[:count])
        slot.event.record(self._copies)
        region.copied.record(self._copies)
        return slot

    def _slot(self) -> _Slot:
        if self._free:
            return self._free.pop()
        if len(self._arrived) >= _SLOTS:
            self._write_oldest()
            return self._free.pop()
        return _Slot(cuda.Event())

    def sampled(self, samples: Sequence[Sample], events: Sequence[Event]) -> None:
        """The step is over: it is written when its fingerprints are here."""
        sent = self._sent or self._send()
        seconds = time.perf_counter() - self._started
        about = self._step, self._tokens, self._layout, self._open(), self._graph, sent
        self._arrived.append(_Arrived(*about, samples, events, seconds))
        self._running = False

    def finish(self) -> None:
        """Write every step that is on its way."""
        while self._arrived:
            self._write_oldest()

    def _write_oldest(self) -> None:
        if not self._arrived[0].slot.event.done():
            self._arrived[0].slot.event.wait()
        # after the wait: Ctrl-C, which comes there if anywhere, must not lose the step
        arrived = self._arrived.popleft()
        self._put(arrived)
        self._free.append(arrived.slot)

    def _put(self, arrived: _Arrived) -> None:
        region, step, slot = arrived.region, arrived.step, arrived.slot
        # not this probe's until the step is written: where that is interrupted, it may be read later
        memory, self._by_op = self._by_op, np.empty(0, np.uint64)
        size = step.rows * len(self._lines.places)
        memory = memory if len(memory) >= size else np.empty(size, np.uint64)
        about = step, arrived.layout, region.rows, region.samples
        prints = self._lines.prints(slot.memory, *about, memory[:size])
        sketches = None
        if region.sketches is not None:
            sketches = self._lines.sketches(slot.sketches, step, arrived.layout, region, prints)
        self._writer.step(
            Record(
                step,
                arrived.tokens,
                prints,
                tuple(region.kernels),
                arrived.samples,
                arrived.events,
                arrived.seconds,
                padded_rows=region.rows,
                graph_bucket=arrived.graph,
                sketches=sketches,
            )
        )
        self._by_op = memory

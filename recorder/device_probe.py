"""DeviceProbe: fingerprints a GPU's activations where they are, and writes a step when its copy has arrived.

Nothing here makes the engine wait for the GPU: fingerprints are computed in the engine's stream and copied by
a stream of their own. Where a graph's outputs last, they are computed behind it, when the GPU is idle because
the host prepares the next step; else in the graph, layer by layer. A step is written while the GPU computes a
later one and the engine's thread has nothing to do: a thread of its own would fight for Python's lock just
when the engine has a step to prepare, which was measured to cost a fifth of the decoding speed.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from detrec.engines.base import SAMPLE_OPS, Event, Sample, Step
from detrec.kernels import cuda
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.fingerprint_many import (
    FingerprintTable,
    fingerprint_table,
    fingerprints,
    fingerprints_of,
)
from detrec.kernels.launch import on_stream
from detrec.recorder.writer import TraceWriter

# outputs with their places among the ops of their kind
_Outputs = list[tuple[int, DeviceArray]]

# steps that may be on their way to the trace before the oldest is waited for
_SLOTS = 8


@dataclass(slots=True)
class _Region:
    """Fingerprints of a step or graph: [ops, rows] of ops that run on all, [ops, samples] of the others."""

    rows: int
    samples: int
    array: DeviceArray
    kernels: list[str]
    copied: cuda.Event
    tables: list[tuple[FingerprintTable, DeviceArray, DeviceArray]] = field(default_factory=list)
    """What to fingerprint when the graph has run, because its outputs last: with entries, and where to."""


@dataclass(slots=True)
class _Slot:
    """Pinned memory for one step's fingerprints, and the mark behind its copy."""

    event: cuda.Event
    memory: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A step that is over; its fingerprints are in `slot` once the slot's event has come."""

    step: Step
    tokens: np.ndarray
    region: _Region
    graph: int
    slot: _Slot
    samples: Sequence[Sample]
    events: Sequence[Event]
    seconds: float


class DeviceProbe:
    """A GraphProbe that records the ops named in `ops`, those of `writer` in their order, of one rank.

    `meanwhile` writes what has arrived, `finish` all that is on its way.
    """

    def __init__(self, writer: TraceWriter, ops: Sequence[str], device: Device) -> None:
        self._writer, self._device = writer, device
        sampled = np.array([name in SAMPLE_OPS for name in ops], bool)
        kinds = np.flatnonzero(~sampled), np.flatnonzero(sampled)
        self._of_rows, self._of_samples = kinds
        # name -> (index among all, index among its kind, whether it runs on sampled rows only)
        self._places = {
            ops[index]: (index, place, name_samples)
            for kind, name_samples in zip(kinds, (False, True), strict=True)
            for place, index in enumerate(kind.tolist())
        }
        self._eager = [self._region(0, 0), self._region(0, 0)]
        self._graphs: dict[int, _Region] = {}
        self._now: _Region | None = None
        self._sent: _Slot | None = None
        self._graph = 0
        # outputs of the graph that is captured, with their places: of rows, and of rows that sample
        self._lasting: tuple[_Outputs, _Outputs] | None = None
        self._batch: list[DeviceArray] = []
        self._first = (0, False)
        self._copies, self._computed = cuda.Stream(), cuda.Event()
        self._free: list[_Slot] = []
        self._arrived: deque[_Arrived] = deque()

    def _region(self, rows: int, samples: int) -> _Region:
        size = self._size(rows, samples)
        array = self._device.empty((size,), "uint64")
        return _Region(rows, samples, array, [""] * len(self._places), cuda.Event())

    def step(self, step: Step, tokens: Sequence[int] | np.ndarray) -> None:
        """A forward pass begins."""
        self._started = time.perf_counter()
        self._step, self._tokens = step, np.asarray(tokens)
        self._now, self._sent, self._batch, self._graph = None, None, [], 0

    def _open(self) -> _Region:
        """The region of the step that runs; it is not run by a graph, else `replaying` had opened one."""
        if self._now is None:
            # two by turns: while one is copied to the host the next step fills the other
            self._eager.reverse()
            region, rows, samples = self._eager[0], self._step.rows, len(self._step.sample_rows)
            if self._size(rows, samples) > region.array.count:
                region = self._region(rows, samples)
            else:
                region = _Region(rows, samples, region.array, [""] * len(self._places), region.copied)
            self._now = self._eager[0] = region
            self._device.stream.wait_for(region.copied)
            self._clear(region)
        return self._now

    def _clear(self, region: _Region) -> None:
        # an op that is not reported stays 0: not recorded
        self._device.stream.fill_zero(region.array[: self._size(region.rows, region.samples)])

    def _size(self, rows: int, samples: int) -> int:
        return len(self._of_rows) * rows + len(self._of_samples) * samples

    @contextmanager
    def capturing(self, rows: int, *, lasting: bool) -> Iterator[None]:
        """Ops reported inside are those of the graph of `rows` rows."""
        if rows not in self._graphs:
            self._graphs[rows] = self._region(rows, rows)
        before, region = self._now, self._graphs[rows]
        self._now, self._batch, self._lasting = region, [], ([], []) if lasting else None
        if not lasting:
            self._clear(region)
        yield
        self._flush()
        if self._lasting:
            self._tabulate(region, self._lasting)
        self._now, self._lasting = before, None

    def _tabulate(self, region: _Region, kinds: tuple[_Outputs, _Outputs]) -> None:
        """Have what the graph leaves fingerprinted when it has run, and its samples are on their way."""
        tables = [fingerprint_table(outputs) for outputs in kinds if outputs]
        if [t.entries.tolist() for t in tables] == [t.entries.tolist() for t, _, _ in region.tables]:
            # the capture itself, in which nothing can be copied: the run before it left the same
            return
        self._device.stream.wait_for(region.copied)
        self._clear(region)
        whole, end = self._size(region.rows, 0), self._size(region.rows, region.samples)
        parts = (0, whole, region.rows), (whole, end, region.samples)
        outs = [
            region.array[start:stop].reshape((stop - start) // rows, rows)
            for (start, stop, rows), outputs in zip(parts, kinds, strict=True)
            if outputs
        ]
        entries = [self._device.copy(table.entries) for table in tables]
        region.tables = list(zip(tables, entries, outs, strict=True))

    def replaying(self, rows: int) -> None:
        """The step that has begun is run by that graph."""
        self._now, self._graph = self._graphs[rows], rows
        if not self._now.tables:
            # the GPU waits, not the engine
            self._device.stream.wait_for(self._now.copied)

    def op(self, name: str, output: DeviceArray, rank: int, kernel: str) -> None:
        """Fingerprint `output`, a row at a time, together with what follows it in its layer or its graph."""
        index, place, samples = self._places[name]
        self._open().kernels[index] = kernel
        if self._lasting:
            self._lasting[samples].append((place, output))
            return
        if self._batch and self._first != (place - len(self._batch), samples):
            self._flush()
        if not self._batch:
            self._first = (place, samples)
        self._batch.append(output)
        # outputs stay where they are for a layer, and no longer
        if samples or "." not in name or name.endswith(".output"):
            self._flush()

    def _flush(self) -> None:
        if not self._batch:
            return
        region, count = self._open(), len(self._batch)
        place, samples = self._first
        rows = region.samples if samples else region.rows
        start = place * rows + (self._size(region.rows, 0) if samples else 0)
        out = region.array[start : start + count * rows].reshape(count, rows)
        with on_stream(self._device.stream.handle):
            fingerprints(self._batch, out)
        self._batch = []

    def meanwhile(self) -> None:
        """The engine has given its step to the GPU: send for its fingerprints, write those that are here."""
        self._send()
        while self._arrived and self._arrived[0].slot.event.done():
            self._write_oldest()

    def _send(self) -> None:
        """Queue the fingerprints of what a graph left, and the copy of all of the step's."""
        self._flush()
        region, slot, stream = self._open(), self._slot(), self._device.stream
        size = self._size(region.rows, region.samples)
        if region.tables:
            stream.wait_for(region.copied)
        with on_stream(stream.handle):
            for table in region.tables:
                fingerprints_of(*table)
        if size > len(slot.memory):
            slot.memory = cuda.pinned(8 * size).view(np.uint64)
        self._computed.record(stream)
        self._copies.wait_for(self._computed)
        self._copies.copy_to_host(slot.memory[:size], region.array[:size])
        slot.event.record(self._copies)
        region.copied.record(self._copies)
        self._sent = slot

    def _slot(self) -> _Slot:
        if self._free:
            return self._free.pop()
        if len(self._arrived) >= _SLOTS:
            self._write_oldest()
            return self._free.pop()
        return _Slot(cuda.Event())

    def sampled(self, samples: Sequence[Sample], events: Sequence[Event]) -> None:
        """The step is over: it is written when its fingerprints are here."""
        assert self._sent is not None, "sampled without meanwhile"
        seconds = time.perf_counter() - self._started
        about = self._step, self._tokens, self._open(), self._graph, self._sent
        self._arrived.append(_Arrived(*about, samples, events, seconds))

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
        region, step = arrived.region, arrived.step
        rows, samples = step.rows, len(step.sample_rows)
        whole, end = self._size(region.rows, 0), self._size(region.rows, region.samples)
        prints = np.zeros((rows, len(self._places)), np.uint64)
        memory = arrived.slot.memory
        prints[:, self._of_rows] = memory[:whole].reshape(-1, region.rows)[:, :rows].T
        drawn = memory[whole:end].reshape(len(self._of_samples), region.samples)[:, :samples]
        prints[np.ix_(np.array(step.sample_rows, np.intp), self._of_samples)] = drawn.T
        self._writer.step(
            step,
            arrived.tokens,
            [prints],
            tuple(region.kernels),
            arrived.samples,
            arrived.events,
            arrived.seconds,
            padded_rows=region.rows,
            graph_bucket=arrived.graph,
        )

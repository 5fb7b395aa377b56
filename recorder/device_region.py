"""Where a step's fingerprints lie on the GPU: a line for each op, first of those that run on every row of the
step, then of those that run where a token is drawn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from detrec.engines.base import SAMPLE_OPS, Step
from detrec.engines.hooks import Layout
from detrec.kernels import cuda
from detrec.kernels.device import Device
from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.fingerprint_many import FingerprintTable, fingerprint_table, fingerprints_of
from detrec.kernels.gpu.rows import FLOATS
from detrec.kernels.gpu.sketch import PARTS, sketch

Placed = list[tuple[int, DeviceArray]]
"""Outputs with the places of their ops among those of their kind."""


@dataclass(frozen=True, slots=True)
class Place:
    """An op: its index among all, its place in its kind, and whether it runs only where a token is drawn."""

    index: int
    place: int
    samples: bool


class Lines:
    """The ops of a trace, in two kinds."""

    def __init__(self, ops: Sequence[str]) -> None:
        sampled = np.array([name in SAMPLE_OPS for name in ops], bool)
        self.of_rows, self.of_samples = np.flatnonzero(~sampled), np.flatnonzero(sampled)
        self._runs = list(_runs(self.of_rows))
        self.places = {
            ops[index]: Place(index, place, samples)
            for kind, samples in ((self.of_rows, False), (self.of_samples, True))
            for place, index in enumerate(kind.tolist())
        }

    def size(self, rows: int, samples: int) -> int:
        """How many fingerprints a step has."""
        return len(self.of_rows) * rows + len(self.of_samples) * samples

    def sketches(
        self, memory: np.ndarray, step: Step, layout: Layout, region: "Region", prints: np.ndarray
    ) -> np.ndarray:
        """float32 [rows of the step, ops, PARTS] out of `memory`; NaN where nothing was sketched."""
        rows, samples = region.rows, region.samples
        flat, whole = memory.reshape(-1, PARTS), self.size(rows, 0)
        out = np.full((step.rows, len(self.places), PARTS), np.nan, np.float32)
        out[:, self.of_rows] = flat[:whole].reshape(-1, rows, PARTS)[:, layout.rows].swapaxes(0, 1)
        drawn = flat[whole : self.size(rows, samples)].reshape(len(self.of_samples), samples, PARTS)
        sampling = np.ix_(np.array(step.sample_rows, np.intp), self.of_samples)
        out[sampling] = drawn[:, layout.samples].swapaxes(0, 1)
        out[(prints == 0) | ~np.array(region.sketched)] = np.nan
        return out

    def prints(
        self, memory: np.ndarray, step: Step, layout: Layout, rows: int, samples: int, out: np.ndarray
    ) -> np.ndarray:
        """uint64 [rows of the step, ops] out of a region's `memory`, which may have more rows than it.

        A view of `out`, uint64 [rows * ops].
        """
        whole, end = self.size(rows, 0), self.size(rows, samples)
        lines, by_op = memory[:whole].reshape(-1, rows), out.reshape(len(self.places), step.rows)
        for ops, places in self._runs:
            # it buffers what it gives unless it is told what to do out of bounds
            lines[places].take(layout.rows, axis=1, out=by_op[ops], mode="clip")
        by_op[self.of_samples] = 0
        drawn = memory[whole:end].reshape(len(self.of_samples), samples)[:, layout.samples]
        by_op[np.ix_(self.of_samples, np.array(step.sample_rows, np.intp))] = drawn
        return by_op.T


def _runs(of_rows: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Ops whose indices follow each other, with their places: a slice is copied quicker than a list."""
    place = 0
    for run in np.split(of_rows, np.flatnonzero(np.diff(of_rows) != 1) + 1):
        if len(run):
            yield slice(run[0], run[-1] + 1), slice(place, place + len(run))
        place += len(run)


@dataclass(slots=True)
class Region:
    """Memory for the fingerprints of a step or graph of `rows` rows, of which `samples` sample.

    `kernels` names what ran for each op; `copied` is the mark behind the latest copy to the host. `tables`
    list outputs that last until a graph has run, with their entries on the device and where results go.
    `sketches`, where they are kept: float32, PARTS for each fingerprint; `sketched`: the ops that have them.
    """

    lines: Lines
    rows: int
    samples: int
    array: DeviceArray
    kernels: list[str]
    copied: cuda.Event
    sketches: DeviceArray | None = None
    sketched: list[bool] = field(default_factory=list)
    tables: list[tuple[FingerprintTable, DeviceArray, DeviceArray]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many fingerprints."""
        return self.lines.size(self.rows, self.samples)

    def part(self, samples: bool) -> DeviceArray:
        """uint64 [ops, rows] of one kind of ops."""
        whole, rows = self.lines.size(self.rows, 0), self.samples if samples else self.rows
        start, count = (whole, len(self.lines.of_samples)) if samples else (0, len(self.lines.of_rows))
        return self.array[start : start + count * rows].reshape(count, rows)

    def sketch(self, samples: bool, place: int, op: int, output: DeviceArray) -> None:
        """Launch the sketch of an output; what is no float has none."""
        if self.sketches is None or output.dtype not in FLOATS:
            return
        whole, rows = self.lines.size(self.rows, 0), self.samples if samples else self.rows
        start = ((whole if samples else 0) + place * rows) * PARTS
        sketch(output, self.sketches[start : start + rows * PARTS].reshape(rows, PARTS))
        self.sketched[op] = True

    def clear(self, device: Device) -> None:
        """An op that is not reported stays 0: not recorded."""
        device.stream.fill_zero(self.array[: self.size])

    def tabulate(self, device: Device, kinds: tuple[Placed, Placed]) -> None:
        """`fill` takes these outputs, of every row and of those that sample, from now on.

        A graph is run once before it is captured, and leaves the same outputs then: in the capture itself, in
        which nothing can be copied, nothing is to be done.
        """
        some = [(fingerprint_table(outputs), bool(kind)) for kind, outputs in enumerate(kinds) if outputs]
        if [table.entries.tolist() for table, _ in some] == [t.entries.tolist() for t, _, _ in self.tables]:
            return
        device.stream.wait_for(self.copied)
        self.clear(device)
        self.tables = [(table, device.copy(table.entries), self.part(kind)) for table, kind in some]

    def fill(self) -> None:
        """Launch the fingerprints of all tables."""
        for table, entries, out in self.tables:
            fingerprints_of(table, entries, out)

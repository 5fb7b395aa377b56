"""TraceProbe: fingerprints what an engine computes as it is computed, and writes a step when it is over.

An engine must not change an array that it has reported: one that is reported twice in a row, as by an
all-reduce over one rank, is fingerprinted once. Where rows are few, to ask for a fingerprint takes longer
than to compute it: outputs that last are then kept for a moment, and some are fingerprinted by one call.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from detrec.engines.base import SAMPLE_OPS, Event, Sample, Step
from detrec.kernels.projections import PARTS
from detrec.kernels.share import Share
from detrec.recorder.steps import Record, StepWriter

# outputs that are fingerprinted by one call, and the rows of a step up to which they are
FEW, _FEW_ROWS = 8, 16

# the index of ops that are not
_ALONE = -2

Fingerprint = Callable[[np.ndarray, np.ndarray], Any]
"""`fingerprint(x [rows, width], out uint64 [rows])`."""


class TraceProbe:
    """Records the ops named in `ops`, those of `writer` in their order, of one rank.

    `shares`: by op, what this rank holds of rows that are cut over ranks. `lasting`: an output stays as it is
    until seven more have been reported, or the step is over. An op that a step does not report has
    fingerprint 0 and no kernel. Raises ValueError for an output that has not one leading index a row,
    KeyError for an op that is not recorded; of a lasting one, as late as that.
    """

    def __init__(
        self,
        writer: StepWriter,
        ops: Sequence[str],
        *,
        shares: Mapping[str, Share] | None = None,
        fingerprint: Fingerprint | None = None,
        lasting: bool = False,
    ) -> None:
        from detrec.kernels.cpu import fingerprint as kernel

        self._sketcher = _Sketcher(len(ops)) if writer.sketch_parts else None
        self._fingerprint = fingerprint or kernel.fingerprint
        self._share_fingerprint = kernel.share_fingerprint
        self._writer = writer
        # what was told and not looked at, in a step in which that may be
        self._waiting: list[tuple[str, Any, str]] = []
        self._lasting, self._some = lasting and not self._sketcher, False
        if self._lasting:
            from detrec.kernels.cpu.fingerprint_few import fingerprint_few

            self._few = fingerprint_few
        # by names of ops that waited together, the index of the first
        self._starts: dict[tuple[str, ...], int] = {}
        shares = shares or {}
        self._ops = {name: (index, name in SAMPLE_OPS, shares.get(name)) for index, name in enumerate(ops)}
        self._memory = np.zeros(0, np.uint64)
        self._views(0)
        self._kernels = [""] * len(self._ops)
        self._seen: Any = None
        self._seen_by: tuple[bool, Share | None] = (False, None)
        self._last_run = self._memory
        self._step: Step | None = None

    def _views(self, rows: int) -> None:
        """Lay [ops, rows] over the memory, with no gaps: an op writes one run of it."""
        size = len(self._ops) * rows
        if size > len(self._memory):
            self._memory = np.empty(size, np.uint64)
        self._prints = self._memory[:size].reshape(len(self._ops), rows)
        # to index an array costs more than to index a list
        self._runs = list(self._prints)
        self._rows = rows

    def step(self, step: Step, tokens: Sequence[int] | np.ndarray) -> None:
        """A forward pass begins."""
        self._started = time.perf_counter()
        self._step, self._tokens = step, tokens
        if step.rows != self._rows:
            self._views(step.rows)
        self._prints.fill(0)
        self._sample_rows = np.array(step.sample_rows, np.intp)
        self._sampled = np.zeros(len(self._sample_rows), np.uint64)
        self._kernels = [""] * len(self._ops)
        self._seen, self._waiting = None, []
        self._some = self._lasting and step.rows <= _FEW_ROWS
        if self._sketcher:
            self._sketcher.begin(step.rows)

    def op(self, name: str, output: Any, rank: int, kernel: str) -> None:
        """Fingerprint `output`, a row at a time; or keep it for a moment."""
        if not self._some:
            self._put(name, output, kernel)
            return
        waiting = self._waiting
        waiting.append((name, output, kernel))
        if len(waiting) == FEW:
            self._flush()

    def _flush(self) -> None:
        """Fingerprint what waits."""
        waiting, self._waiting = self._waiting, []
        if len(waiting) == FEW:
            names, outputs, kernels = zip(*waiting, strict=True)
            start = self._starts.get(names)
            if start is None:
                start = self._starts[names] = self._start(names)
            if start >= 0 and self._put_few(outputs, start):
                self._kernels[start : start + FEW] = kernels
                return
        for name, output, kernel in waiting:
            self._put(name, output, kernel)

    def _put_few(self, outputs: Sequence[np.ndarray], start: int) -> bool:
        """Fingerprint them by one call, if they are what it takes."""
        try:
            return bool(self._few(*outputs, self._memory, start * self._rows, self._rows))
        except TypeError:
            return False

    def _start(self, names: Sequence[str]) -> int:
        """The index of the first of `names`, if they follow each other and have all rows, and whole ones."""
        indices, samples, shares = zip(*(self._ops[name] for name in names), strict=True)
        follow = list(indices) == list(range(indices[0], indices[0] + FEW))
        return indices[0] if follow and not any(samples) and not any(shares) else _ALONE

    def _put(self, name: str, output: np.ndarray, kernel: str) -> None:
        index, samples, share = self._ops[name]
        self._kernels[index] = kernel
        if self._sketcher:
            self._sketcher.add(output, index, self._sample_rows if samples else None)
        run = self._runs[index]
        if output is self._seen and self._seen_by == (samples, share):
            run[:] = self._last_run
            return
        out = self._sampled if samples else run
        if len(output) != len(out):
            raise ValueError(f"{name}: expected {len(out)} rows, got {len(output)}")
        if share is not None:
            self._share_fingerprint(output, share, out)
        else:
            self._fingerprint(output if output.dtype.names is None else _words(output), out)
        if samples:
            run[self._sample_rows] = out
        self._seen, self._seen_by, self._last_run = output, (samples, share), run

    def sampled(self, samples: Sequence[Sample], events: Sequence[Event]) -> None:
        """The step is over: hand it to the writer."""
        assert self._step is not None, "sampled before any step"
        self._flush()
        # nothing of the engine's may be kept alive or looked at after its step
        self._seen = None
        seconds = time.perf_counter() - self._started
        self._writer.step(
            Record(
                self._step,
                self._tokens,
                self._prints.T,
                tuple(self._kernels),
                samples,
                events,
                seconds,
                sketches=self._sketcher.sketches if self._sketcher else None,
            )
        )

    def finish(self) -> None:
        """Every step that is over has been handed to the writer."""


class _Sketcher:
    """Sketches of one step: `sketches` is float32 [rows, ops, PARTS], NaN where there is none."""

    def __init__(self, ops: int) -> None:
        from detrec.kernels.cpu.sketch import sketch

        self._sketch, self._shape = sketch, (ops, PARTS)
        self.begin(0)

    def begin(self, rows: int) -> None:
        """A step of `rows` rows begins."""
        self.sketches = np.full((rows, *self._shape), np.nan, np.float32)

    def add(self, output: np.ndarray, op: int, rows: np.ndarray | None) -> None:
        """Sketch `output`, whose rows are those of the step or its `rows`; what is no float has no sketch."""
        if output.dtype not in (np.float32, np.uint16):
            return
        out = self._sketch(output, np.empty((len(output), self._shape[1]), np.float32))
        self.sketches[slice(None) if rows is None else rows, op] = out


def _words(records: np.ndarray) -> np.ndarray:
    """Records of whole 64-bit words as int64 [rows, words], without a copy."""
    return records.view(np.int64).reshape(len(records), -1)

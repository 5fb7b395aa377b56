"""Steps as rows of the trace's arrays.

Pure: what the writer was told in, arrays by path out. The tables that codes point into grow in order of first
use, so that the same run gives the same codes whenever it is committed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from detrec.engines.base import Event, Sample, Step
from detrec.recorder.schema import EVENT_KINDS, KINDS, ArraySpec

_KIND_CODES = {kind: code for code, kind in enumerate(KINDS)}
_EVENT_CODES = {kind: code for code, kind in enumerate(EVENT_KINDS)}
# the array whose growth each entry of the commit marker counts
_LENGTHS = {
    "steps/seconds": "steps",
    "events/step": "events",
    "slices/step": "slices",
    "rows/step": "rows",
    "samples/step": "samples",
    "kernels/configurations": "configurations",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One step of one rank as it was run: a token a row, a kernel an op, wall time in `seconds`.

    `fingerprints` is uint64 [rows, ops], `sketches`, where they are kept, float32 [rows, ops, parts], NaN
    where there is none. `padded_rows`: rows that a GPU ran for the step, padding and all; 0 on a CPU, which
    pads none. `graph_bucket`: the rows of the CUDA graph that ran, 0 where none did.
    """

    step: Step
    tokens: Sequence[int] | np.ndarray
    fingerprints: np.ndarray
    kernels: tuple[str, ...]
    samples: Sequence[Sample]
    finished: Sequence[Event]
    seconds: float
    padded_rows: int = 0
    graph_bucket: int = 0
    sketches: np.ndarray | None = None


class StepWriter(Protocol):
    """Takes the steps of one rank: rank 0's TraceWriter, or another rank's RankWriter."""

    @property
    def sketch_parts(self) -> int:
        """Numbers of a sketch; 0 where none are kept."""
        ...

    def step(self, record: Record) -> None:
        """Add a step. Its arrays may change when this has returned, and may not when it was interrupted."""
        ...


class Codes:
    """Numbers for what is not a number: request ids, kernel names, kernels of a step, reasons to finish."""

    def __init__(self, requests: Iterable[str]) -> None:
        self.requests = {name: index for index, name in enumerate(requests)}
        self.kernels: dict[str, int] = {}
        self.configurations: dict[tuple[str, ...], int] = {}
        self.finish: dict[str, int] = {"": 0}

    def configuration(self, kernels: tuple[str, ...]) -> int:
        """The code of a step's kernels."""
        code = self.configurations.get(kernels)
        if code is None:
            for name in kernels:
                self.kernels.setdefault(name, len(self.kernels))
            code = self.configurations.setdefault(kernels, len(self.configurations))
        return code

    def finished(self, reason: str) -> int:
        """The code of a reason to finish."""
        return self.finish.setdefault(reason, len(self.finish))


def arrays_of(
    records: Sequence[Record], counts: dict[str, int], codes: Codes, specs: Mapping[str, ArraySpec]
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """What `records` add to a trace of `counts`, but fingerprints and sketches; and what it holds then."""
    lists = {
        "steps": _steps(records, counts, codes),
        "events": _events(records, codes),
        "slices": _slices(records, codes),
        "samples": _samples(records, codes),
    }
    arrays = {
        f"{group}/{name}": np.array(values, specs[f"{group}/{name}"].dtype)
        for group, columns in lists.items()
        for name, values in columns.items()
    }
    arrays |= _rows(records, arrays)
    fresh = list(codes.configurations)[counts["configurations"] :]
    width = specs["kernels/configurations"].width
    coded = [[codes.kernels[name] for name in kernels] for kernels in fresh]
    arrays["kernels/configurations"] = np.array(coded, np.int32).reshape(len(fresh), width)
    after = dict(counts)
    for path, count in _LENGTHS.items():
        after[count] += len(arrays[path])
    return arrays, after


def _steps(records: Sequence[Record], counts: dict[str, int], codes: Codes) -> dict[str, Any]:
    rows = np.cumsum([counts["rows"], *(record.step.rows for record in records)])
    slices = np.cumsum([counts["slices"], *(len(record.step.slices) for record in records)])
    return {
        "row_start": rows[:-1],
        "slice_start": slices[:-1],
        "seconds": [record.seconds for record in records],
        "kernel_table": [codes.configuration(record.kernels) for record in records],
        "padded_rows": [record.padded_rows for record in records],
        "graph_bucket": [record.graph_bucket for record in records],
    }


def _events(records: Sequence[Record], codes: Codes) -> dict[str, Any]:
    events = [
        (record.step.index, event) for record in records for event in (*record.step.events, *record.finished)
    ]
    return {
        "step": [step for step, _ in events],
        "request": [codes.requests[event.request] for _, event in events],
        "kind": [_EVENT_CODES[event.kind] for _, event in events],
        "tokens": [event.tokens for _, event in events],
    }


def _slices(records: Sequence[Record], codes: Codes) -> dict[str, Any]:
    slices = [(record.step.index, part) for record in records for part in record.step.slices]
    return {
        "step": [step for step, _ in slices],
        "request": [codes.requests[part.request] for _, part in slices],
        "start": [part.start for _, part in slices],
        "stop": [part.stop for _, part in slices],
        "kind": [_KIND_CODES[part.kind] for _, part in slices],
        "samples": [part.samples for _, part in slices],
        "first_block": [part.first_block for _, part in slices],
    }


def _rows(records: Sequence[Record], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    start, stop = arrays["slices/start"], arrays["slices/stop"]
    lengths = stop - start
    before = np.cumsum(lengths) - lengths
    return {
        "rows/step": np.repeat(arrays["slices/step"], lengths),
        "rows/request": np.repeat(arrays["slices/request"], lengths),
        "rows/position": (np.arange(lengths.sum()) + np.repeat(start - before, lengths)).astype(np.int32),
        "rows/token": np.concatenate([record.tokens for record in records]),
    }


def _samples(records: Sequence[Record], codes: Codes) -> dict[str, Any]:
    samples = [(record.step.index, sample) for record in records for sample in record.samples]
    return {
        "step": [step for step, _ in samples],
        "request": [codes.requests[sample.request] for _, sample in samples],
        "position": [sample.position for _, sample in samples],
        "token": [sample.token for _, sample in samples],
        "taken": [sample.taken for _, sample in samples],
        "logprob": [sample.logprob for _, sample in samples],
        "margin": [sample.margin for _, sample in samples],
        "seed": [sample.seed for _, sample in samples],
        "counter": [sample.counter for _, sample in samples],
        "finish": [codes.finished(sample.finish) for _, sample in samples],
    }

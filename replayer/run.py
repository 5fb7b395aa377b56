"""One side of a comparison: where its rows and its draws stand."""

from dataclasses import dataclass

import numpy as np

from detrec.replayer.align import Places, sampling_rows
from detrec.replayer.schedule_diff import generations, served_from_cache
from detrec.replayer.trace import Samples, Trace


@dataclass(frozen=True, slots=True)
class Run:
    """`number[i]`: the number of its request i, the same in both runs. `sampled`: the row of each draw."""

    trace: Trace
    number: np.ndarray
    rows: Places
    draws: Samples
    samples: Places
    sampled: np.ndarray


def request_ids(*runs: Trace) -> tuple[str, ...]:
    """The requests of all runs, each once: an id's index here is its number in every one of them."""
    return tuple(dict.fromkeys(request.id for run in runs for request in run.requests))


def run_of(trace: Trace, ids: tuple[str, ...]) -> Run:
    """The run of `trace`, its requests numbered by `ids`. TraceCorrupt where it contradicts itself."""
    index = {name: number for number, name in enumerate(ids)}
    number = np.array([index[request.id] for request in trace.requests], np.int32)
    cached = served_from_cache(trace, number, len(ids))
    request = number[trace.row_request]
    rows = Places(request, trace.row_position, generations(trace, number, request, trace.row_step), cached)
    draws = trace.samples()
    # a cache serves no draw: what one run drew and the other did not is always missing
    request = number[draws.request]
    generation = generations(trace, number, request, draws.step)
    samples = Places(request, draws.position, generation, np.zeros_like(cached))
    return Run(trace, number, rows, draws, samples, sampling_rows(rows, trace.row_step, samples, draws.step))

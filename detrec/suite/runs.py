"""A run of the suite: a workload replayed with a fault, or with a change that must change nothing."""

import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detrec.engines.faults import FAULTS
from detrec.engines.faults.base import Sighting
from detrec.errors import ConfigError, ReplayError
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import record
from detrec.replayer.comparison import Comparison
from detrec.replayer.divergence import first_of
from detrec.replayer.replay import replay
from detrec.suite.places import places
from detrec.suite.workload import CLEAN, workload

PARALLEL = 4
"""Ranks of the faults that need several: two have one sum in any order, and three cannot share the heads."""

_ATTEMPTS = 8
"""How many places are tried for one at which the fault acts."""


@dataclass(frozen=True, slots=True)
class FaultRun:
    """`seen` is where the fault says that it first changed a bit, `found` where the replay says; `cause` of
    `expected`. `seconds` is the replay with its diagnosis.

    `reordered`: the replay had other steps, and its comparison has a birth at `seen` too. Which of two births
    is the first then depends on whose steps are counted: the fault counts the replay's, the comparison the
    recording's.
    """

    fault: str
    mode: str
    seed: int
    seen: str
    found: str
    cause: str
    expected: str
    summary: str
    seconds: float
    reordered: bool = False

    @property
    def localised(self) -> bool:
        """Found exactly where it was."""
        return self.seen == self.found or self.reordered

    @property
    def wrong(self) -> bool:
        """Another class was claimed; unknown claims nothing."""
        return self.cause not in (self.expected, "unknown")


@dataclass(frozen=True, slots=True)
class CleanRun:
    """A replay with `overrides` and no fault: `verdict` must be "identical"."""

    overrides: tuple[str, ...]
    seed: int
    verdict: str
    seconds: float


def ranks_for(name: str) -> int:
    """On how many ranks a fault is tried: one, or as many as the model can be cut into."""
    return PARALLEL if FAULTS[name].least_ranks else 1


def traces(folder: Path, seeds: Sequence[int], ranks: int = 1) -> dict[int, str]:
    """Record the workload of each seed."""
    paths = {seed: str(folder / f"{seed}-on-{ranks}.zarr") for seed in seeds}
    for seed, path in paths.items():
        record(workload(seed, ranks), path)
    return paths


def fault_runs(name: str, trace: str, seed: int, count: int) -> Iterator[FaultRun]:
    """`count` runs of one fault, each born at another place; fewer where there are no more."""
    reader = TraceReader(trace)
    tried: set[str] = set()
    acted: set[str] = set()
    requests = [request.id for request in reader.requests]
    every = places(FAULTS[name], reader.ops, reader.n_steps, requests, seed)
    for fault in itertools.islice(every, count * _ATTEMPTS):
        if fault in tried:
            continue
        tried.add(fault)
        run = _first_that_acts(fault, trace, seed)
        # the same place again is no other place
        if run is not None and run.seen not in acted:
            acted.add(run.seen)
            yield run
        if len(acted) == count:
            return


def _first_that_acts(fault: str, trace: str, seed: int) -> FaultRun | None:
    """Some faults act only where the scheduler decides."""
    for mode in ("schedule", "tokens"):
        run = _fault_run(fault, trace, seed, mode)
        if run is not None:
            return run
    return None


def _fault_run(fault: str, trace: str, seed: int, mode: str) -> FaultRun | None:
    """None where the fault changes no bit, cannot be had, or leaves a schedule that cannot be followed."""
    name = fault.partition(":")[0]
    notices: list[str] = []
    with tempfile.TemporaryDirectory(prefix="detrec-suite-") as folder:
        path = str(Path(folder) / "replayed.zarr")
        begin = time.perf_counter()
        try:
            done = replay(trace, path, fault=fault, mode=mode, diagnose=True, notify=notices.append)
        except (ConfigError, ReplayError):
            return None
        seconds = time.perf_counter() - begin
        found = _first_by_replay(done.comparison, TraceReader(path))
    told = f"fault {name}: first bit changed at "
    seen = [text.removeprefix(told) for text in notices if text.startswith(told)]
    if not seen:
        return None
    cause, summary = "unknown", "not diagnosed"
    if done.diagnosis is not None:
        cause, summary = done.diagnosis.cause, done.diagnosis.summary
    return FaultRun(fault, mode, seed, seen[0], found, cause, FAULTS[name].cause, summary, seconds)


def _first_by_replay(comparison: Comparison, replayed: TraceReader) -> str:
    """The first divergence by the replay's own steps, which are those that a fault knows.

    A comparison goes by the recorded steps. Where the runs were scheduled alike, that is the same.
    """
    rows = comparison.divergent
    at = first_of(replace(rows, row=rows.other), comparison.born, replayed.row_step)
    if at is None:
        return "nowhere"
    row = int(rows.other[at])
    request = replayed.requests[int(replayed.row_request[row])].id
    place = int(replayed.row_step[row]), request, int(replayed.row_position[row])
    return str(Sighting(*place, comparison.ops[int(rows.op[at])]))


def clean_runs(traces: dict[int, str], count: int) -> Iterator[CleanRun]:
    """`count` replays that must be identical: every change in turn, on every trace in turn."""
    every = itertools.cycle(itertools.product(CLEAN, traces.items()))
    for overrides, (seed, trace) in itertools.islice(every, count):
        mode = "free" if overrides else "schedule"
        done = replay(trace, overrides=overrides, mode=mode)
        yield CleanRun(overrides, seed, done.comparison.verdict, done.seconds)

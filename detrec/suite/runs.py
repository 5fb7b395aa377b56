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

ALONE = (
    *("split_k_by_batch", "autotuned_matmul", "racing_matmul", "silu_by_tanh"),
    *("bitflip", "weight_bitflip", "wrong_block", "misplaced_write"),
)
"""Faults that are tried on one rank of several too: of every class that a rank can have by itself."""

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


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: a fault in an engine of `ranks` ranks, in all of them, or `alone` in one."""

    fault: str
    ranks: int = 1
    alone: bool = False

    def __str__(self) -> str:
        return f"{self.fault} on 1 of {self.ranks}" if self.alone else self.fault

    def count(self, places: int) -> int:
        """How many of `places` are tried in a workload: ranks take seconds to start."""
        return 1 if self.alone else places


def rows(names: Sequence[str]) -> list[Row]:
    """Each fault on one rank, or on as many as the model can be cut into; then those on one of several."""
    every = [Row(name, PARALLEL if FAULTS[name].least_ranks else 1) for name in names]
    return every + [
        Row(name, ranks, alone=True) for ranks in (2, PARALLEL) for name in names if name in ALONE
    ]


def traces(folder: Path, seeds: Sequence[int], ranks: int = 1) -> dict[int, str]:
    """Record the workload of each seed."""
    paths = {seed: str(folder / f"{seed}-on-{ranks}.zarr") for seed in seeds}
    for seed, path in paths.items():
        record(workload(seed, ranks), path)
    return paths


def fault_runs(row: Row, trace: str, seed: int, count: int) -> Iterator[FaultRun]:
    """`count` runs of one fault, each born at another place; fewer where there are no more."""
    reader = TraceReader(trace)
    tried: set[str] = set()
    acted: set[str] = set()
    requests = [request.id for request in reader.requests]
    ranks = row.ranks if row.alone else 0
    every = places(FAULTS[row.fault], reader.ops, reader.n_steps, requests, seed, ranks)
    for fault in itertools.islice(every, count * _ATTEMPTS):
        if fault in tried:
            continue
        tried.add(fault)
        run = _first_that_acts(fault, trace, seed, alone=row.alone)
        # the same place again is no other place
        if run is not None and run.seen not in acted:
            acted.add(run.seen)
            yield run
        if len(acted) == count:
            return


def _first_that_acts(fault: str, trace: str, seed: int, *, alone: bool) -> FaultRun | None:
    """Some faults act only where the scheduler decides."""
    for mode in ("schedule", "tokens"):
        run = _fault_run(fault, trace, seed, mode, alone=alone)
        if run is not None:
            return run
    return None


def _fault_run(fault: str, trace: str, seed: int, mode: str, *, alone: bool) -> FaultRun | None:
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
        found = _first_by_replay(done.comparison, TraceReader(trace), TraceReader(path), alone=alone)
    told = f"fault {name}: first bit changed at "
    seen = [text.removeprefix(told) for text in notices if text.startswith(told)]
    if not seen:
        return None
    cause, summary = "unknown", "not diagnosed"
    if done.diagnosis is not None:
        cause, summary = done.diagnosis.cause, done.diagnosis.summary
    return FaultRun(fault, mode, seed, seen[0], found, cause, FAULTS[name].cause, summary, seconds)


def _first_by_replay(
    comparison: Comparison, recorded: TraceReader, replayed: TraceReader, *, alone: bool
) -> str:
    """The first divergence by the replay's own steps, which are those that a fault knows.

    A comparison goes by the recorded steps. Where the runs were scheduled alike, that is the same. `alone`:
    the rank counts too.
    """
    rows = comparison.divergent
    at = first_of(replace(rows, row=rows.other), comparison.born, replayed.row_step)
    if at is None:
        return "nowhere"
    row = int(rows.other[at])
    request = replayed.requests[int(replayed.row_request[row])].id
    place = int(replayed.row_step[row]), request, int(replayed.row_position[row])
    name = comparison.ops[int(rows.op[at])]
    return str(
        Sighting(*place, name, _rank(recorded, replayed, int(rows.row[at]), row, name) if alone else None)
    )


def _rank(recorded: TraceReader, replayed: TraceReader, row: int, other: int, name: str) -> int:
    """The first rank that does not have the recorded fingerprint of an op in a row of both runs."""
    at, there = recorded.ops.index(name), replayed.ops.index(name)
    return next(
        rank
        for rank in range(replayed.ranks)
        if recorded.fingerprints(row, row + 1, rank)[0, at]
        != replayed.fingerprints(other, other + 1, rank)[0, there]
    )


def clean_runs(traces: dict[int, str], count: int) -> Iterator[CleanRun]:
    """`count` replays that must be identical: every change in turn, on every trace in turn."""
    every = itertools.cycle(itertools.product(CLEAN, traces.items()))
    for overrides, (seed, trace) in itertools.islice(every, count):
        mode = "free" if overrides else "schedule"
        done = replay(trace, overrides=overrides, mode=mode)
        yield CleanRun(overrides, seed, done.comparison.verdict, done.seconds)

"""`python -m detrec.suite`: run the fault suite and print its table.

Exit codes: 0 all is as it must be, 1 a fault was found elsewhere or nowhere, was given a wrong class, or a
clean replay diverged, 2 the suite could not run. `unknown` is no wrong class, and is counted apart.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from detrec.engines.faults import FAULTS
from detrec.errors import DetrecError
from detrec.suite.runs import CleanRun, FaultRun, clean_runs, fault_runs, rows, traces
from detrec.suite.workload import CLEAN, SEEDS

_SUMMARY = "Run the fault suite: is every fault found exactly where it was born, and its class right?"
_HEAD = ("fault", "runs", "localised exactly", "class right", "unknown", "seconds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what `arguments` ask for; the table goes to stdout, what went wrong to stderr."""
    asked = _parser().parse_args(arguments)
    table = rows([asked.only] if asked.only else list(FAULTS))
    seeds = asked.seeds
    with tempfile.TemporaryDirectory(prefix="detrec-suite-") as folder:
        on = {ranks: traces(Path(folder), seeds, ranks) for ranks in {1, *(row.ranks for row in table)}}
        print(_row(_HEAD), flush=True)
        failures, every = 0, []
        for row in table:
            paths, count = on[row.ranks], row.count(asked.places)
            runs = [run for seed, path in paths.items() for run in fault_runs(row, path, seed, count)]
            every += runs
            failures += _tell(str(row), runs, count * len(seeds))
        if not asked.only:
            _tell("all faults", every, 0)
        cleans = asked.clean if asked.clean is not None else 0 if asked.only else len(CLEAN) * len(seeds)
        failures += _tell_clean(list(clean_runs(on[1], cleans)))
    return min(failures, 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m detrec.suite", description=_SUMMARY)
    parser.add_argument("--only", metavar="NAME", choices=list(FAULTS), help="this fault alone")
    parser.add_argument("--places", metavar="N", type=_some, default=3, help="of a fault in a workload")
    parser.add_argument("--seeds", metavar="N", type=_seeds, default=SEEDS, help="workloads, at most 3")
    parser.add_argument("--clean", metavar="N", type=_any, help="replays without a fault, 0 for none")
    return parser


def _any(text: str, least: int = 0) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected {least} or more, got {text!r}")
    return int(text)


def _some(text: str) -> int:
    return _any(text, 1)


def _seeds(text: str) -> tuple[int, ...]:
    if _some(text) > len(SEEDS):
        raise argparse.ArgumentTypeError(f"there are {len(SEEDS)} workloads, got {text!r}")
    return SEEDS[: int(text)]


def _tell(name: str, runs: Sequence[FaultRun], wanted: int) -> int:
    """Print a row of the table; how many failures it holds."""
    localised = sum(run.localised for run in runs)
    right = sum(run.cause == run.expected for run in runs)
    unknown = sum(run.cause == "unknown" for run in runs)
    seconds = sum(run.seconds for run in runs) / max(len(runs), 1)
    size = len(runs)
    print(_row((name, size, f"{localised}/{size}", f"{right}/{size}", unknown, f"{seconds:.2f}")), flush=True)
    if not wanted:
        return 0
    failed = [run for run in runs if not run.localised or run.wrong]
    for run in [*failed, *(run for run in runs if run.cause == "unknown")]:
        _note(_story(run))
    if not runs:
        _note(f"{name}: acted nowhere")
    elif size < wanted:
        _note(f"{name}: acted at {size} of {wanted} places")
    return len(failed) + (not runs)


def _story(run: FaultRun) -> str:
    found = "there" if run.localised else f"at {run.found}"
    return (
        f"{run.fault} --mode {run.mode} (workload {run.seed}): seen at {run.seen}, found {found}; "
        f"expected {run.expected}, got {run.cause}: {run.summary}"
    )


def _tell_clean(runs: Sequence[CleanRun]) -> int:
    failed = [run for run in runs if run.verdict != "identical"]
    if runs:
        seconds = sum(run.seconds for run in runs) / len(runs)
        print(f"clean: {len(runs) - len(failed)} of {len(runs)} replays are identical, {seconds:.2f} s each")
    for run in failed:
        _note(f"clean (workload {run.seed}) {' '.join(run.overrides) or 'as recorded'}: {run.verdict}")
    return len(failed)


def _row(cells: Sequence[object]) -> str:
    fault, runs, *rest = map(str, cells)
    return f"{fault:<30}{runs:>6}" + "".join(f"{cell:>19}" for cell in rest)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DetrecError as error:
        _note(f"detrec: error: {error}")
        sys.exit(2)

"""How quickly a large trace opens and can be walked through, and in how much memory.

    python -m benchmarks.bench_explore [FOLDER]

FOLDER is what `make_large_trace` filled; without one, traces are made and thrown away.
Each replay is opened in a process of its own, the files in the page cache. `open` is until the schedule can
be shown, `first` until the first divergence is met, `all` until every cell was compared; the rest is what
one look takes after that, the slowest of several.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

from benchmarks.drive_explorer import LOOKS, driven
from detrec.replayer.divergence import Divergence
from detrec.replayer.survey.grid import Window
from detrec.replayer.survey.survey import Survey

REPLAYS = {
    "few.zarr": "three requests diverge",
    "other.zarr": "the same under another schedule",
    "all.zarr": "every row diverges",
}
HEADER = (
    "replay", "open s", "first s", "all s", "next ms", "row ms", "step ms", "whole map ms", "request map ms",
    "window ms", "schedule ms", "tokens ms", "memory MB",
)  # fmt: skip
SIZES = (80, 24), (200, 60)
DRIVEN = ("replay", "screen", "seen s", "verdict s", *(f"{look.name} ms" for look in LOOKS), "memory MB")


def worst(looks: Callable[[], object], times: int = 5) -> float:
    """Milliseconds of the slowest of several looks."""
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        looks()
        seconds.append(time.perf_counter() - begin)
    return 1000 * max(seconds)


def measured(run: str, other: str) -> list[str]:
    """The cells of one line of the table."""
    begin = time.perf_counter()
    survey = Survey(run, other)
    opened = time.perf_counter() - begin
    sighted: list[tuple[float, Divergence]] = []
    survey.compare(sighted=lambda found: sighted.append((time.perf_counter() - begin, found)))
    compared = time.perf_counter() - begin
    first = survey.first()
    assert first is not None
    assert survey.comparison is not None
    # what was met first must be what is first, or the time it took says nothing
    assert sighted[0][1] == survey.comparison.first
    assert survey.runs is not None
    steps = survey.runs.recorded.n_steps
    here = [first]

    def walk() -> None:
        here.append(survey.next(here[-1].cell) or first)

    cell = survey.goto(f"step {steps // 2}")
    length = survey.runs.length(first.cell.request)
    windows = iter(range(0, steps, steps // 6))
    looks: list[Callable[[], object]] = [
        walk,
        lambda: survey.row(survey.goto(f"step {next(windows)}")),
        lambda: survey.rows_of_op(first.cell.step, first.cell.op),
        lambda: survey.grid(Window(0, steps, 180)),
        lambda: survey.grid(Window(0, length, 180, request=first.cell.request, layer=-1)),
        lambda: survey.grid(Window(cell.step, cell.step + 180, 180, layer=-1)),
        lambda: survey.schedule[survey.schedule.next_differing(cell.step) or cell.step],
        lambda: survey.tokens(first.cell.request),
    ]
    times = [f"{worst(look):.0f}" for look in looks]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [f"{opened:.2f}", f"{sighted[0][0]:.2f}", f"{compared:.2f}", *times, f"{peak:.0f}"]


def main() -> None:
    """Parse, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--replay", choices=REPLAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.replay:
        cells = measured(str(args.folder / "run.zarr"), str(args.folder / args.replay))
        print(f"| {REPLAYS[args.replay]} | {' | '.join(cells)} |", flush=True)
        return
    if args.folder:
        table(args.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "benchmarks.make_large_trace", folder], check=True)
        table(Path(folder))


def table(folder: Path) -> None:
    """Measure each replay in a process of its own, so that its memory is its own."""
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}", flush=True)
    for name in REPLAYS:
        command = [sys.executable, "-m", "benchmarks.bench_explore", str(folder), "--replay", name]
        subprocess.run(command, check=True)
    print(f"\n| {' | '.join(DRIVEN)} |\n|{'---|' * len(DRIVEN)}", flush=True)
    for name, (columns, lines) in product(REPLAYS, SIZES):
        cells = driven(str(folder / "run.zarr"), str(folder / name), columns, lines)
        print(f"| {REPLAYS[name]} | {columns} x {lines} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

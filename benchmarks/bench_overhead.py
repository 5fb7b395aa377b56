"""What determinism and recording cost the engine on a GPU.

    python -m benchmarks.bench_overhead [--model NAME] [--requests 64] [--prompt 512] [--output 128]

Variants take turns in one process, forwards and backwards, each round with fresh engines over the same
weights; the first round compiles and is thrown away. A decode step is timed by itself once its graph has been
captured; the whole run has everything in it: prefill, captures, writing the trace. Figures are medians over
rounds, ratios are taken round by round.
"""

import argparse
import gc
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.workload import Kept, Times, config_of, engine_of, keep_weights, timed
from detrec.recorder.levels import recorded_ops
from detrec.recorder.record import manifest, open_probe
from detrec.recorder.writer import TraceWriter

VARIANTS = (
    ("deterministic, not recorded", True, ""),
    ("deterministic, level layer", True, "layer"),
    ("deterministic, level op", True, "op"),
    ("vendor kernels, not recorded", False, ""),
)
# in times of the run that is not recorded
BARS = {"deterministic, level layer": 1.02, "deterministic, level op": 1.05}
HEADS = (
    *("engine", "decode step ms, median", "of the first", "mean", "of the first", "bar"),
    *("prefill tok/s", "decode tok/s", "whole s", "of the first", "waits a step"),
)
Figure = Callable[[Times], float]


def run(args: argparse.Namespace, checkpoint: Kept, deterministic: bool, level: str) -> Times:
    """One run of a fresh engine."""
    config = config_of(args.model, args.requests, args.prompt, args.output, deterministic=deterministic)
    engine = engine_of(config, checkpoint)
    # no run pays for the garbage of the one before it
    gc.collect()
    if not level:
        return timed(engine.run(engine.own_scheduler()))
    names = recorded_ops(engine.op_names, level)
    with tempfile.TemporaryDirectory() as folder:
        about = {"manifest": manifest(config, engine), "requests": engine.requests, "ops": names}
        with TraceWriter(str(Path(folder) / "run.zarr"), **about) as writer:
            probe = open_probe(writer, names, engine)
            return timed(engine.run(engine.own_scheduler(), probe, frozenset(names)), probe.finish)


def ratio(figure: Figure, runs: Sequence[Times], base: Sequence[Times]) -> float:
    """The median of this round's figure in times of the other's."""
    return statistics.median(figure(t) / figure(b) for t, b in zip(runs, base, strict=True))


def step(times: Times) -> float:
    """Seconds of a settled step, the middle one's."""
    return statistics.median(times.settled)


def mean(times: Times) -> float:
    """The same of all of them."""
    return statistics.mean(times.settled)


def whole(times: Times) -> float:
    """Seconds of a run."""
    return times.whole


def row(args: argparse.Namespace, name: str, runs: Sequence[Times], base: Sequence[Times]) -> str:
    """One line of the table."""
    cells = [name]
    for figure in (step, mean):
        cells += [
            f"{1e3 * statistics.median(map(figure, runs)):.3f}",
            f"{ratio(figure, runs, base):.3f}",
        ]
    prefill = args.requests * args.prompt / statistics.median(t.prefill for t in runs)
    decode = args.requests * (args.output - 1) / statistics.median(sum(t.decodes) for t in runs)
    cells += [str(BARS.get(name, "")), f"{prefill:.0f}", f"{decode:.0f}"]
    cells += [f"{statistics.median(map(whole, runs)):.3f}", f"{ratio(whole, runs, base):.3f}"]
    return f"| {' | '.join([*cells, f'{runs[0].waits:g}'])} |"


def main() -> None:
    """Parse, run, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="builtin:qwen2-7b")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--output", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    keep_weights()
    checkpoint = Kept(args.model)
    times: dict[str, list[Times]] = {name: [] for name, _, _ in VARIANTS}
    for number in range(args.rounds + 1):
        for name, deterministic, level in VARIANTS[:: 1 if number % 2 else -1]:
            taken = run(args, checkpoint, deterministic, level)
            if number:
                times[name].append(taken)
    base = times[VARIANTS[0][0]]
    asked = f"{args.requests} requests, prompts of {args.prompt}, {args.output} generated"
    print(f"{args.model}, bfloat16, {asked}; {args.rounds} rounds")
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    for name, runs in times.items():
        print(row(args, name, runs, base))
    found = ratio(whole, base, times[VARIANTS[3][0]])
    print(f"\ndeterministic against vendor kernels: {found:.3f} times the seconds (bar 1.10)")


if __name__ == "__main__":
    main()

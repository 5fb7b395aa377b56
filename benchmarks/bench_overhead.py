"""What determinism and recording cost the engine on a GPU.

    python -m benchmarks.bench_overhead [--model NAME] [--requests 64] [--prompt 512] [--output 128]

Variants take turns in one process, each round with fresh engines over the same weights; the first round
compiles and is thrown away. Figures are medians over rounds, ratios are taken round by round.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.workload import Kept, Times, config_of, engine_of, keep_weights, timed
from detrec.recorder.device_probe import DeviceProbe
from detrec.recorder.levels import recorded_ops
from detrec.recorder.record import manifest
from detrec.recorder.writer import TraceWriter

VARIANTS = (
    ("deterministic, not recorded", True, ""),
    ("deterministic, level layer", True, "layer"),
    ("deterministic, level op", True, "op"),
    ("vendor kernels, not recorded", False, ""),
)
# in times of the run that is not recorded
BARS = {"deterministic, level layer": 1.02, "deterministic, level op": 1.05}


def run(args: argparse.Namespace, checkpoint: Kept, deterministic: bool, level: str) -> Times:
    """One run of a fresh engine."""
    config = config_of(args.model, args.requests, args.prompt, args.output, deterministic=deterministic)
    engine = engine_of(config, checkpoint)
    if not level:
        return timed(engine.run(engine.own_scheduler()))
    names = recorded_ops(engine.op_names, level)
    assert engine.device is not None
    with tempfile.TemporaryDirectory() as folder:
        about = {"manifest": manifest(config, engine), "requests": engine.requests, "ops": names}
        with TraceWriter(str(Path(folder) / "run.zarr"), **about) as writer:
            probe = DeviceProbe(writer, names, engine.device)
            times = timed(engine.run(engine.own_scheduler(), probe, frozenset(names)))
            probe.finish()
    return times


def main() -> None:
    """Parse, run, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="builtin:qwen2-7b")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--output", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    keep_weights()
    checkpoint = Kept(args.model)
    times: dict[str, list[Times]] = {name: [] for name, _, _ in VARIANTS}
    for _ in range(args.rounds + 1):
        for name, deterministic, level in VARIANTS:
            times[name].append(run(args, checkpoint, deterministic, level))
    base = times[VARIANTS[0][0]][1:]
    print(
        f"{args.model}, bfloat16, {args.requests} requests, prompts of {args.prompt}, {args.output} generated"
    )
    heads = (
        "engine",
        "prefill tok/s",
        "decode tok/s",
        "whole s",
        "of the first",
        "decode alone",
        "bar",
        "waits a step",
    )
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, rounds in times.items():
        kept = rounds[1:]
        prefill = args.requests * args.prompt / statistics.median(t.prefill for t in kept)
        decode = args.requests * (args.output - 1) / statistics.median(t.decode for t in kept)
        whole = statistics.median(t.whole / b.whole for t, b in zip(kept, base, strict=True))
        alone = statistics.median(t.decode / b.decode for t, b in zip(kept, base, strict=True))
        seconds = statistics.median(t.whole for t in kept)
        bar = BARS.get(name, "")
        figures = f"{prefill:.0f} | {decode:.0f} | {seconds:.3f} | {whole:.3f} | {alone:.3f}"
        print(f"| {name} | {figures} | {bar} | {kept[0].waits:g} |")
    vendor = times[VARIANTS[3][0]][1:]
    ratio = statistics.median(b.whole / v.whole for b, v in zip(base, vendor, strict=True))
    print(f"\ndeterministic against vendor kernels: {ratio:.3f} times the seconds (bar 1.10)")


if __name__ == "__main__":
    main()

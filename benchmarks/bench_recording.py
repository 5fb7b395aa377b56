"""What writing a trace takes of the thread that computes: steps of fingerprints that come as from a GPU.

    python -m benchmarks.bench_recording [--model NAME] [--rows 8192] [--steps 4] [--decodes 64] [--pause 0]

A producer stands for the GPU: fingerprints are in host memory line by line, one line an op, as after the copy
of a step. Steps of `--rows` rows come first, then `--decodes` steps of 64 rows; before each the producer
sleeps `--pause` milliseconds, as an engine waits for its GPU. `giving` is the time in which the engine's
thread is held, `closed` is until the trace is complete, and the floor is one file of the same bytes, written
by one call after one digest of them.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detrec.config import SamplingParams
from detrec.engines.base import Kind, Request, Slice, Step
from detrec.engines.builtin.model import op_names
from detrec.engines.builtin.model_config import ModelConfig
from detrec.engines.builtin.weights import open_checkpoint
from detrec.engines.hooks import Layout
from detrec.recorder.device_region import Lines
from detrec.recorder.digests import digest
from detrec.recorder.steps import Record
from detrec.recorder.writer import TraceWriter

DECODED = 64


def steps_of(rows: int, count: int, decodes: int) -> list[Step]:
    """`count` steps of one prompt each, then `decodes` steps of 64 requests."""
    steps = [Step(index, (Slice(f"r{index}", 0, rows, Kind.PREFILL, True),)) for index in range(count)]
    for index in range(count, count + decodes):
        at = rows + index
        slices = tuple(Slice(f"r{n}", at, at + 1, Kind.DECODE, True) for n in range(DECODED))
        steps.append(Step(index, slices))
    return steps


def run(ops: Sequence[str], steps: Sequence[Step], pause: float, folder: str) -> tuple[list[float], float]:
    """Seconds that each step took of the thread that gives it, and seconds until the trace was complete."""
    lines, kernels = Lines(ops), tuple(f"kernel of {op}" for op in ops)
    draws = np.random.default_rng(3)
    largest = max(step.rows for step in steps)
    memory = [draws.integers(1, 2**63, lines.size(largest, DECODED), dtype=np.uint64) for _ in range(2)]
    by_op = np.empty(largest * len(ops), np.uint64)
    requests = [Request(f"r{n}", (1,), SamplingParams(seed=n)) for n in range(max(DECODED, len(steps)))]
    tokens, given = np.arange(largest), []
    begin = time.perf_counter()
    with TraceWriter(Path(folder) / "run.zarr", manifest={}, requests=requests, ops=ops) as writer:
        for step in steps:
            time.sleep(pause)
            before = time.perf_counter()
            rows, drawn = step.rows, len(step.sample_rows)
            layout = Layout(rows, np.arange(rows), drawn, np.arange(drawn))
            out = by_op[: rows * len(ops)]
            prints = lines.prints(memory[step.index % 2], step, layout, rows, drawn, out)
            writer.step(Record(step, tokens[:rows], prints, kernels, (), (), 0.0))
            given.append(time.perf_counter() - before)
    return given, time.perf_counter() - begin - pause * len(steps)


def floor(nbytes: int, folder: str) -> float:
    """Seconds to hash and write as many bytes at once."""
    data = np.random.default_rng(4).bytes(nbytes)
    begin = time.perf_counter()
    digest(data)
    (Path(folder) / "floor").write_bytes(data)
    return time.perf_counter() - begin


def main() -> None:
    """Parse, run, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="builtin:qwen2-7b", help="whose ops, all of which are recorded")
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--decodes", type=int, default=64)
    parser.add_argument("--pause", type=float, default=0.0, help="milliseconds between steps")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    config: ModelConfig = open_checkpoint(args.model).config
    ops = tuple(op_names(config))
    steps = steps_of(args.rows, args.steps, args.decodes)
    nbytes = 8 * len(ops) * sum(step.rows for step in steps)
    large, small, whole, floors = [], [], [], []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            given, seconds = run(ops, steps, args.pause / 1000, folder)
            floors.append(floor(nbytes, folder))
        large.append(1e3 * statistics.median(given[: args.steps]))
        small.append(1e3 * statistics.median(given[args.steps :] or [0.0]))
        whole.append(seconds)
    print(f"{len(ops)} ops, {nbytes / 1e6:.0f} MB of fingerprints; medians of {args.rounds} rounds")
    print("| ms of the thread, a large step | a step of 64 rows | closed after s | MB/s | floor s |")
    print("|---|---|---|---|---|")
    closed, least = statistics.median(whole), statistics.median(floors)
    cells = f"{statistics.median(large):.2f}", f"{statistics.median(small):.2f}", f"{closed:.3f}"
    print(f"| {' | '.join(cells)} | {nbytes / closed / 1e6:.0f} | {least:.3f} |")


if __name__ == "__main__":
    main()

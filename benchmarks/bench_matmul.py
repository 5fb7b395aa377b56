"""The batch-invariant matmul against cuBLAS, in bfloat16, on one GPU.

    python benchmarks/bench_matmul.py [--rows 64,8,1] [--rounds 15]

Both are captured in CUDA graphs that walk over enough weights to leave the L2 cache behind, and are replayed
in turns, so that they share the clocks and the power limit of the moment. Figures are medians over rounds;
many rows are told in TFLOP/s, few in GB/s of weights.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.matmul import matmul
from detrec.kernels.launch import on_stream

# rows, K, N, and the part of cuBLAS's speed that must be reached
WORK = (
    (8192, 8192, 8192, 0.95),
    (4096, 3584, 37888, 0.95),
    (4096, 18944, 3584, 0.95),
    (512, 3584, 37888, 0.90),
    (64, 3584, 37888, 0.95),
    (8, 3584, 37888, 0.95),
    (1, 3584, 37888, 0.95),
    (1, 18944, 3584, 0.90),
    (64, 18944, 3584, 0.90),
    (32, 3584, 4608, 0.90),
)

COLD = 300e6
"""Bytes of weights that a graph walks over: six times the L2 cache of an H100."""

SECONDS = 0.02
"""How long a graph runs, about: long enough for the power limit to show."""

MANY = 256
"""From so many rows on, a matmul is told in TFLOP/s."""


def array(tensor: torch.Tensor) -> DeviceArray:
    """The tensor as kernels take it."""
    dtype = str(tensor.dtype).partition(".")[2]
    return DeviceArray(tensor.data_ptr(), dtype, tuple(tensor.shape), tensor.stride(), tensor)


def captured(work: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """A graph of `work`, run once before, after all that was asked of the device."""
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream), on_stream(stream.cuda_stream):
        work()
        stream.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            work()
    return graph


def milliseconds(graph: torch.cuda.CUDAGraph, replays: int) -> float:
    """Of one replay, on the device."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(replays):
        graph.replay()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / replays


def compare(rows: int, depth: int, cols: int, rounds: int) -> tuple[float, float]:
    """Milliseconds of one matmul: ours and cuBLAS's."""
    size = depth * cols * 2
    count = max(2, -(-int(COLD) // size))
    weights = [torch.randn(cols, depth, device="cuda", dtype=torch.bfloat16) / 64 for _ in range(count)]
    x = torch.randn(rows, depth, device="cuda", dtype=torch.bfloat16)
    out = torch.empty(rows, cols, device="cuda", dtype=torch.bfloat16)
    theirs = torch.empty_like(out)

    def ours() -> None:
        for weight in weights:
            matmul(array(x), array(weight), None, array(out))

    def cublas() -> None:
        for weight in weights:
            torch.mm(x, weight.T, out=theirs)

    graphs = captured(ours), captured(cublas)
    torch.testing.assert_close(out, theirs, rtol=2e-2, atol=2e-2)
    replays = max(1, round(SECONDS * 1e3 / milliseconds(graphs[1], 1)))
    times = [[milliseconds(graph, replays) for graph in graphs] for _ in range(rounds + 1)]
    mine, other = (statistics.median(column) / count for column in zip(*times[1:], strict=True))
    return mine, other


def launch_microseconds() -> float:
    """Of Python, to launch a matmul of a few rows whose kernel is compiled."""
    x, weight, out = (
        torch.randn(shape, device="cuda", dtype=torch.bfloat16) for shape in ((8, 64), (64, 64), (8, 64))
    )
    x, weight, out = array(x), array(weight), array(out)
    rounds = []
    for _ in range(20):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(100):
            matmul(x, weight, None, out)
        rounds.append((time.perf_counter() - start) * 1e4)
    return statistics.median(rounds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", help="only matmuls of so many rows: 64,8,1")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    only = {int(rows) for rows in options.rows.split(",")} if options.rows else None

    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, medians of {options.rounds} rounds\n")
    print("| rows, K, N | cuBLAS | detrec | of cuBLAS | bar | |\n|---|---|---|---|---|---|")
    for rows, depth, cols, bar in WORK:
        if only and rows not in only:
            continue
        mine, other = compare(rows, depth, cols, options.rounds)
        work, unit = (2e-9 * rows, "TFLOP/s") if rows >= MANY else (2e-6, "GB/s")
        speeds = [f"{work * depth * cols / taken:.0f} {unit}" for taken in (other, mine)]
        met = "met" if other / mine >= bar else "**missed**"
        print(
            f"| {rows}, {depth}, {cols} | {speeds[0]} | {speeds[1]} | {other / mine:.3f} | {bar} | {met} |",
            flush=True,
        )
    print(f"\nA launch takes {launch_microseconds():.1f} us of Python.")


if __name__ == "__main__":
    main()

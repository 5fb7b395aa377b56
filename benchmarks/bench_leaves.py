"""What `reduction: tp_invariant` costs: K summed as leaves in a tree, against the plain matmul.

    python -m benchmarks.bench_leaves [--rows 1,64] [--ranks 1,2,4,8] [--rounds 9] [--cpu]

A rank of n has K / n of a row-parallel layer, and 8 / n leaves. On a GPU in bfloat16 (a rank of several gives
float32), both captured in CUDA graphs as `bench_matmul` does it; with --cpu in float32, on all cores. The two
are timed in turns; figures are medians over rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from detrec.kernels.leaves import LEAVES

# K and N of Qwen2-7B's down_proj and o_proj
LAYERS = ((18944, 3584), (3584, 3584))

# of SmolLM2-135M's
SMALL = ((1536, 576), (576, 576))

ROWS = (1, 8, 32, 64, 512, 4096)

MOST = 64e9
"""Multiply-adds of the largest matmul that is timed on a CPU."""

Pair = tuple[float, float]
"""Milliseconds of the plain matmul, and of the one by leaves."""


def in_turns(calls: tuple[Callable[[], object], ...], rounds: int) -> Pair:
    """The median milliseconds of each call, after a round that is not counted."""
    times = []
    for _ in range(rounds + 1):
        row = []
        for call in calls:
            start = time.perf_counter()
            call()
            row.append((time.perf_counter() - start) * 1e3)
        times.append(row)
    plain, leaves = (statistics.median(column) for column in zip(*times[1:], strict=True))
    return plain, leaves


def on_cpu(rows: int, depth: int, cols: int, ranks: int, rounds: int) -> Pair:
    """Milliseconds of one rank's matmul in float32."""
    from detrec.kernels.cpu.matmul import matmul
    from detrec.kernels.cpu.matmul_leaves import matmul_leaves
    from detrec.kernels.cpu.packed import PANEL, PackedWeight

    own = depth // ranks
    panels = np.full((cols // PANEL, own, PANEL), 0.5, np.float32)
    weight, x = PackedWeight(panels, (cols, own)), np.ones((rows, own), np.float32)
    out = np.empty((rows, cols), np.float32)
    repeat = max(1, round(2e8 / (rows * own * cols)))

    def plain() -> None:
        for _ in range(repeat):
            matmul(x, weight, None, out)

    def leaves() -> None:
        for _ in range(repeat):
            matmul_leaves(x, weight, out, leaves=LEAVES // ranks)

    times = in_turns((plain, leaves), rounds)
    return times[0] / repeat, times[1] / repeat


def on_gpu(rows: int, depth: int, cols: int, ranks: int, rounds: int) -> Pair:
    """Milliseconds of one rank's matmul in bfloat16."""
    import torch

    from benchmarks.bench_matmul import COLD, SECONDS, array, captured, milliseconds
    from detrec.kernels.gpu.matmul import matmul
    from detrec.kernels.gpu.matmul_leaves import matmul_leaves

    own = depth // ranks
    count = max(2, -(-int(COLD) // (own * cols * 2)))
    weights = [torch.randn(cols, own, device="cuda", dtype=torch.bfloat16) / 64 for _ in range(count)]
    x = torch.randn(rows, own, device="cuda", dtype=torch.bfloat16)
    kind = torch.bfloat16 if ranks == 1 else torch.float32
    outs = [torch.empty(rows, cols, device="cuda", dtype=kind) for _ in range(2)]

    def plain() -> None:
        for weight in weights:
            matmul(array(x), array(weight), None, array(outs[0]))

    def leaves() -> None:
        for weight in weights:
            matmul_leaves(array(x), array(weight), array(outs[1]), leaves=LEAVES // ranks)

    graphs = captured(plain), captured(leaves)
    torch.testing.assert_close(*outs, rtol=2e-2, atol=2e-2)
    replays = max(1, round(SECONDS * 1e3 / milliseconds(graphs[0], 1)))
    times = [[milliseconds(graph, replays) for graph in graphs] for _ in range(rounds + 1)]
    mine, other = (statistics.median(column) / count for column in zip(*times[1:], strict=True))
    return mine, other


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default=",".join(map(str, ROWS)), help="only so many rows: 1,64")
    parser.add_argument("--ranks", default="1", help="the parts of 1, 2, 4 or 8 ranks: 1,2")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cpu", action="store_true", help="on the CPU, also the layers of SmolLM2-135M")
    options = parser.parse_args()
    time_of = on_cpu if options.cpu else on_gpu

    print(f"medians of {options.rounds} rounds, us\n")
    print("| rows, K, N | ranks | plain | leaves | leaves / plain |\n|---|---|---|---|---|")
    for depth, cols in (*LAYERS, *SMALL) if options.cpu else LAYERS:
        for rows in map(int, options.rows.split(",")):
            for ranks in map(int, options.ranks.split(",")):
                if options.cpu and rows * depth * cols > MOST:
                    continue
                plain, leaves = time_of(rows, depth, cols, ranks, options.rounds)
                figures = f"{plain * 1e3:.1f} | {leaves * 1e3:.1f} | {leaves / plain:.3f}"
                print(f"| {rows}, {depth}, {cols} | {ranks} | {figures} |", flush=True)


if __name__ == "__main__":
    main()

"""The custom all-reduce against NCCL's: latency inside a CUDA graph, by message size.

    python -m benchmarks.bench_all_reduce [--ranks N] [--dtype bfloat16]

A process a GPU. A graph holds GRAPH all-reduces in a row; its time, as the slowest rank's events give it, is
divided by them: the median over ROUNDS graphs. NCCL's graphs run between ours, in the same processes. Each
all-reduce of a graph has memory of its own while that stays under SPREAD bytes.
"""

import argparse
import multiprocessing
import os
import socket
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.bench_rows import of
from detrec.kernels.device import Device
from detrec.kernels.device_group import DeviceGroup
from detrec.kernels.launch import on_stream
from detrec.kernels.rendezvous import Rendezvous

SIZES = [1 << power for power in range(10, 27)]
ROUNDS, SPREAD = 30, 512 << 20
# figures.md: the size up to which latency may be this many times NCCL's
BARS = ((512 << 10, 1.0), (8 << 20, 1.1))


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def ranks_do(world: int, body: Callable[..., Any], *args: Any, seconds: float = 300) -> list[Any]:
    """What `body(rendezvous, *args)` gives in each of `world` processes; None where one fails or is late."""
    spawn = multiprocessing.get_context("spawn")
    name, port = Rendezvous.create(world), free_port()
    pipes = [spawn.Pipe(duplex=False) for _ in range(world)]
    ranks = [
        spawn.Process(target=_rank, args=(name, port, rank, world, body, args, pipes[rank][1]))
        for rank in range(world)
    ]
    for rank in ranks:
        rank.start()
    deadline = time.monotonic() + seconds
    answers = []
    for end, answer in pipes:
        answer.close()
        try:
            answers.append(end.recv() if end.poll(max(deadline - time.monotonic(), 0)) else None)
        except EOFError:
            answers.append(None)
    for rank in ranks:
        rank.join(10)
        if rank.is_alive():
            rank.kill()
    return answers


def _rank(
    name: str, port: int, rank: int, world: int, body: Callable[..., Any], args: tuple[Any, ...], answer: Any
) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        answer.send(body(Rendezvous.join(name, rank, world, 120), *args))
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        answer.send(None)
    # not torn down: a rank that failed would hold up the others
    os._exit(0)


def captured(stream: torch.cuda.Stream, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """A graph of `work`, which has run once before."""
    with torch.cuda.stream(stream):
        work()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        work()
    return graph


def microseconds(stream: torch.cuda.Stream, graph: torch.cuda.CUDAGraph, rendezvous: Rendezvous) -> float:
    """The time of one run of the graph."""
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    rendezvous.barrier()
    with torch.cuda.stream(stream):
        # the first one takes up what one rank is ahead of the other
        graph.replay()
        before.record(stream)
        graph.replay()
        after.record(stream)
    stream.synchronize()
    return before.elapsed_time(after) * 1e3


def latencies(rendezvous: Rendezvous, kind: str, sizes: list[int]) -> list[tuple[int, float, float]]:
    """Bytes, microseconds of ours, and of NCCL's, of this rank."""
    rank, world = rendezvous.rank, rendezvous.world_size
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", rank=rank, world_size=world, device_id=torch.device("cuda", rank))
    device = Device("torch", f"gpu:{rank}")
    group = DeviceGroup(rendezvous, device, max(sizes), 20)
    stream = torch.cuda.Stream()
    rows = []
    for size in sizes:
        calls = 50 if size <= 1 << 20 else 10
        copies = min(calls, SPREAD // (2 * size))
        dtype = getattr(torch, kind)
        xs = [torch.randn(size // dtype.itemsize, device="cuda").to(dtype) for _ in range(copies)]
        outs = [torch.empty_like(x) for x in xs]
        views = [(of(x), of(out)) for x, out in zip(xs, outs, strict=True)]
        torch.cuda.synchronize()

        def ours(views: Any = views, calls: int = calls, copies: int = copies) -> None:
            with on_stream(stream.cuda_stream):
                for call in range(calls):
                    group.all_reduce(*views[call % copies])

        def theirs(xs: Any = xs, calls: int = calls, copies: int = copies) -> None:
            for call in range(calls):
                dist.all_reduce(xs[call % copies])

        graphs = captured(stream, ours), captured(stream, theirs)
        for graph in graphs:
            microseconds(stream, graph, rendezvous)
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(ROUNDS):
            for graph, taken in zip(graphs, times, strict=True):
                taken.append(microseconds(stream, graph, rendezvous) / calls)
        group.check()
        rows.append((size, statistics.median(times[0]), statistics.median(times[1])))
    return rows


def bar_of(size: int) -> float | None:
    """How many times NCCL's latency is allowed."""
    return next((bar for most, bar in BARS if size <= most), None)


def size_name(size: int) -> str:
    """1 KiB, 64 MiB."""
    return f"{size >> 20} MiB" if size >> 20 else f"{size >> 10} KiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=torch.cuda.device_count())
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "float16", "bfloat16"))
    options = parser.parse_args()
    answers = ranks_do(options.ranks, latencies, options.dtype, SIZES)
    if None in answers:
        sys.exit("a rank failed")
    print(f"{options.ranks} x {torch.cuda.get_device_name()}, torch {torch.__version__}, NCCL ", end="")
    print(f"{'.'.join(map(str, torch.cuda.nccl.version()))}, {options.dtype}, inside a CUDA graph\n")
    print("| message | detrec µs | NCCL µs | of NCCL | bar | met |\n|---|---|---|---|---|---|")
    for rows in zip(*answers, strict=True):
        size = rows[0][0]
        ours, theirs = (max(row[place] for row in rows) for place in (1, 2))
        bar, share = bar_of(size), ours / theirs
        met = "-" if bar is None else "yes" if share <= bar else "**no**"
        print(f"| {size_name(size)} | {ours:.1f} | {theirs:.1f} | {share:.2f} | {bar or '-'} | {met} |")


if __name__ == "__main__":
    main()

"""Sampling on the GPU: microseconds a step of S rows, beside what torch does with the same logprobs.

    python benchmarks/bench_sample.py [--vocabulary 152064] [--rounds 30] [--spread 3.0]

Each figure is the median over rounds of one CUDA graph of calls on rows that rotate through more memory than
the L2 cache holds, divided by the number of calls. Logits are normal with standard deviation SPREAD: the
smaller, the more tokens a cut keeps. torch takes a sample by softmax and multinomial, a greedy one by argmax.
"""

import argparse
import statistics
from collections.abc import Callable

import numpy as np
import torch

from detrec.kernels.device_array import DeviceArray
from detrec.kernels.gpu.penalties import penalise
from detrec.kernels.gpu.sample import sample, scratch_bytes
from detrec.kernels.launch import on_stream

POOL_ROWS = 256
SEEN = 2000
ROWS = (1, 8, 64)
WORK: dict[str, dict[str, float]] = {
    "greedy": {"temperature": 0.0},
    "temperature 1": {},
    "top-p 0.95": {"top_p": 0.95},
    "top-k 50": {"top_k": 50},
    "top-k 50, top-p 0.95": {"top_k": 50, "top_p": 0.95},
}


def of(tensor: torch.Tensor) -> DeviceArray:
    """A tensor as kernels take it."""
    kind = str(tensor.dtype).removeprefix("torch.")
    return DeviceArray(tensor.data_ptr(), kind, tuple(tensor.shape), tuple(tensor.stride()), tensor)


def to_device(array: np.ndarray) -> DeviceArray:
    """A copy, by way of bytes: torch has them all, and not every type of numpy."""
    memory = torch.from_numpy(array.reshape(-1).view(np.uint8)).cuda()
    return DeviceArray(memory.data_ptr(), array.dtype.name, array.shape, (), memory)


def microseconds(call: Callable[[int], object], rows: int, rounds: int) -> float:
    """The median time of call(first row of the pool)."""
    calls = max(8, 2 * POOL_ROWS // rows)
    starts = [i * rows % POOL_ROWS for i in range(calls)]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), on_stream(stream.cuda_stream):
        for start in starts[:3]:
            call(start)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for start in starts:
                call(start)
        times = []
        for _ in range(rounds):
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            before.record()
            graph.replay()
            after.record()
            torch.cuda.synchronize()
            times.append(before.elapsed_time(after) * 1e3 / calls)
    return statistics.median(times)


def draws(pool: torch.Tensor, rows: int, asked: dict[str, float]) -> Callable[[int], object]:
    """Our draw of `rows` rows."""
    given = [
        to_device(np.full(rows, asked.get(name, neutral), kind))
        for name, neutral, kind in (
            ("temperature", 1.0, np.float32),
            ("top_k", 0, np.int32),
            ("top_p", 1.0, np.float32),
            ("min_p", 0.0, np.float32),
            ("seed", 42, np.uint64),
            ("counter", 7, np.uint64),
        )
    ]
    out = of(torch.empty((rows, 4), dtype=torch.int64, device="cuda"))
    scratch = of(torch.empty(scratch_bytes(rows, pool.shape[1]), dtype=torch.uint8, device="cuda"))
    return lambda start: sample(of(pool[start : start + rows]), *given, out, scratch)


def penalties(pool: torch.Tensor, rows: int) -> Callable[[int], object]:
    """Our penalties on `rows` rows that have each seen SEEN tokens."""
    vocabulary, rng = pool.shape[1], np.random.default_rng(1)
    seen = np.concatenate([rng.permutation(vocabulary)[:SEEN] for _ in range(rows)]).astype(np.int32)
    ones = [np.full(rows, weight, np.float32) for weight in (1.1, 0.2, 0.3)]
    given = [
        *(seen, np.arange(rows + 1, dtype=np.int64) * SEEN),
        *(np.ones(seen.size, np.int32), np.ones(seen.size, np.uint8), *ones),
        *(np.zeros(1, np.int32), np.zeros(rows + 1, np.int64)),
    ]
    arrays = [to_device(array) for array in given]
    out = of(torch.empty((rows, vocabulary), device="cuda"))
    return lambda start: penalise(of(pool[start : start + rows]), *arrays, out)


def peers(pool: torch.Tensor, rows: int) -> dict[str, Callable[[int], object]]:
    """What torch does."""
    return {
        "torch argmax": lambda start: torch.argmax(pool[start : start + rows], dim=-1),
        "torch softmax, multinomial": lambda start: torch.multinomial(
            torch.softmax(pool[start : start + rows], dim=-1), 1
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=152064)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--spread", type=float, default=3.0)
    args = parser.parse_args()
    torch.manual_seed(5)
    pool = torch.log_softmax(torch.randn((POOL_ROWS, args.vocabulary), device="cuda") * args.spread, dim=-1)
    table: dict[str, list[float]] = {}
    for rows in ROWS:
        calls = {name: draws(pool, rows, asked) for name, asked in WORK.items()}
        calls |= {"penalties": penalties(pool, rows)} | peers(pool, rows)
        for name, call in calls.items():
            table.setdefault(name, []).append(microseconds(call, rows, args.rounds))
    print(f"{torch.cuda.get_device_name()}, vocabulary {args.vocabulary}, microseconds a step of S rows\n")
    print("| work | " + " | ".join(f"S = {rows}" for rows in ROWS) + " |")
    print("|---|" + "---|" * len(ROWS))
    for name, times in table.items():
        print(f"| {name} | " + " | ".join(f"{time:.1f}" for time in times) + " |")


if __name__ == "__main__":
    main()

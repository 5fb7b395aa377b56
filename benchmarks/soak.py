"""A small trace on GPUs, replayed many times: every verdict counts.

    python -m benchmarks.soak [--times 1000] [--processes 12] [--ranks 1] [--reduction ranks]

A deterministic engine that is right a thousand times can still be wrong, but one that is wrong once is wrong.
Every replay loads its weights, captures its graphs, runs and is compared anew. Of one rank, processes share
the GPU, so that other work is on it while each of them runs; of several, the processes stay and the engines
are new each time.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.bench_all_reduce import ranks_do
from detrec.config import ServeConfig, serve_config
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.builtin.ranks import Ranks
from detrec.engines.builtin.requests import resolve_requests
from detrec.engines.builtin.weights import open_checkpoint
from detrec.kernels.rendezvous import Rendezvous
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import record, run_recorded
from detrec.replayer.compare import compare
from detrec.replayer.forced import ForcedSchedule
from detrec.replayer.replay import replay

PROMPTS = ([1, 2, 3, 4, 5, 6, 7], list(range(100, 140)), [9, 9, 9])
ENGINE = {
    "framework": "torch", "device": "gpu", "dtype": "bfloat16", "max_model_len": 64, "max_num_seqs": 4,
    "max_num_batched_tokens": 32,
}  # fmt: skip


BATCH = 10


def replays(path: str, times: int) -> Counter[str]:
    """The verdict of each of `times` replays."""
    return Counter(replay(path).comparison.verdict for _ in range(times))


def by_processes(args: argparse.Namespace) -> Counter[str]:
    """Verdicts of replays by several processes, one rank each."""
    batches = [min(BATCH, args.times - start) for start in range(0, args.times, BATCH)]
    # a process that was forked could not use CUDA
    start, found = multiprocessing.get_context("spawn"), Counter[str]()
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(args.processes, start) as pool:
        path = str(Path(folder) / "run.zarr")
        record(config_of(args), path)
        trace = TraceReader(path)
        print(f"{graphs(trace)} of {trace.n_steps} steps ran as a CUDA graph", flush=True)
        for some in pool.map(partial(replays, path), batches):
            found += some
    return found


def graphs(trace: TraceReader) -> int:
    """How many steps ran as a CUDA graph."""
    return int(np.count_nonzero(trace.column("steps/graph_bucket")))


def config_of(args: argparse.Namespace) -> ServeConfig:
    """Three requests that come one after another."""
    requests = [
        {"prompt_token_ids": prompt, "arrival": index, "sampling": {"max_tokens": 6, "top_p": 0.9}}
        for index, prompt in enumerate(PROMPTS)
    ]
    engine = {**ENGINE, "tensor_parallel_size": args.ranks, "reduction": args.reduction}
    return serve_config({"model": args.model, "engine": engine, "requests": requests})


def by_ranks(meeting: Rendezvous, args: argparse.Namespace) -> Counter[str]:
    """Verdicts of replays by ranks that stay; those of rank 0."""
    config, ranks, verdicts = config_of(args), Ranks(meeting), Counter[str]()
    checkpoint = open_checkpoint(config.model)
    requests = resolve_requests(config, checkpoint)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        first, again = (str(Path(folder) / name) for name in ("run.zarr", "again.zarr"))
        recorded: TraceReader | None = None
        for _ in range(args.times + 1):
            # rank 0's clock counts
            late = time.perf_counter() - begin > args.seconds
            if meeting.exchange(b"late" if late else b"")[0]:
                break
            engine = BuiltinEngine(config, checkpoint, requests, ranks=ranks)
            if meeting.rank:
                ranks.told()(engine)
            elif recorded is None:
                run_recorded(engine, engine.own_scheduler(), config, first)
                recorded = TraceReader(first)
                print(f"{graphs(recorded)} of {recorded.n_steps} steps ran as a CUDA graph", flush=True)
            else:
                run_recorded(engine, engine.follow(ForcedSchedule(recorded)), config, again, overwrite=True)
                verdicts[compare(recorded, TraceReader(again)).verdict] += 1
            # the meeting is needed again
            engine._runner._group.close()
    return verdicts


def main() -> None:
    """Parse, record once, replay, print the count of each verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=12, help="where there is one rank")
    parser.add_argument("--seconds", type=float, default=3600, help="begin none after that; ranks > 1")
    parser.add_argument("--model", default="builtin:qwen2-tiny")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--reduction", default="ranks")
    args = parser.parse_args()
    begin = time.perf_counter()
    if args.ranks > 1:
        verdicts = ranks_do(args.ranks, by_ranks, args, seconds=3600)[0]
        if verdicts is None:
            sys.exit("a rank failed")
    else:
        verdicts = by_processes(args)
    seconds = time.perf_counter() - begin
    count = sum(verdicts.values())
    print(f"{count} replays on {args.ranks} ranks in {seconds:.0f} s: {dict(verdicts)}")
    raise SystemExit(0 if set(verdicts) == {"identical"} else 1)


if __name__ == "__main__":
    main()

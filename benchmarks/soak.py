"""A small trace on a GPU, replayed many times: every verdict counts.

    python -m benchmarks.soak [--times 1000] [--processes 12]

A deterministic engine that is right a thousand times can still be wrong, but one that is wrong once is wrong.
Every replay loads its weights, captures its graphs, runs and is compared anew; processes share the GPU, so
that other work is on it while each of them runs.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from detrec.config import serve_config
from detrec.recorder.record import record
from detrec.replayer.replay import replay

PROMPTS = ([1, 2, 3, 4, 5, 6, 7], list(range(100, 140)), [9, 9, 9])
ENGINE = {
    "framework": "torch", "device": "gpu", "dtype": "bfloat16", "max_model_len": 64, "max_num_seqs": 4,
    "max_num_batched_tokens": 32,
}  # fmt: skip
BATCH = 10


def verdicts(path: str, times: int) -> Counter[str]:
    """The verdict of each of `times` replays."""
    return Counter(replay(path).comparison.verdict for _ in range(times))


def main() -> None:
    """Parse, record once, replay, print the count of each verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=12)
    parser.add_argument("--model", default="builtin:qwen2-tiny")
    args = parser.parse_args()
    requests = [
        {"prompt_token_ids": prompt, "arrival": index, "sampling": {"max_tokens": 6, "top_p": 0.9}}
        for index, prompt in enumerate(PROMPTS)
    ]
    config = serve_config({"model": args.model, "engine": ENGINE, "requests": requests})
    batches = [min(BATCH, args.times - start) for start in range(0, args.times, BATCH)]
    found: Counter[str] = Counter()
    # a process that was forked could not use CUDA
    start = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(args.processes, start) as pool:
        path = str(Path(folder) / "run.zarr")
        record(config, path)
        begin = time.perf_counter()
        for some in pool.map(partial(verdicts, path), batches):
            found += some
        seconds = time.perf_counter() - begin
    shown = ", ".join(f"{count} {verdict}" for verdict, count in found.items())
    print(f"{found.total()} replays in {seconds:.0f} s by {args.processes} processes: {shown}")
    raise SystemExit(0 if found == Counter(identical=args.times) else 1)


if __name__ == "__main__":
    main()

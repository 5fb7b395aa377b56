"""One recording on a GPU and its replays under other configurations: identical, and how long they take.

    python -m benchmarks.bench_replay [--model builtin:qwen2-7b] [--requests 64]

Prompts of 16 to 300 tokens arrive over time, half of them sampled; the recording keeps every op. Replays are
`--mode free` unless the table says otherwise, so nothing forces them to be equal. The last rows are the
contrast: the same engine with the vendor's kernels.
"""

import argparse
import gc
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workload import Kept, keep_weights
from detrec.config import ServeConfig, serve_config
from detrec.engines.base import Scheduler
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.builtin.requests import resolve_requests
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import run_recorded
from detrec.replayer.compare import compare
from detrec.replayer.forced import ForcedSchedule

ENGINE = {
    "framework": "torch", "device": "gpu", "dtype": "bfloat16", "max_model_len": 384, "max_num_seqs": 64,
    "max_num_batched_tokens": 2048, "num_gpu_blocks_override": 2048,
}  # fmt: skip
FREE: list[dict[str, Any]] = [
    {"max_num_seqs": 64},
    {"max_num_seqs": 7},
    {"max_num_seqs": 1},
    {"max_num_batched_tokens": 256},
    {"max_num_batched_tokens": 8192},
    {"use_cudagraph": False},
    {"enable_prefix_caching": False},
    {"max_num_seqs": 7, "max_num_batched_tokens": 256, "use_cudagraph": False},
]  # fmt: skip


def config_of(args: argparse.Namespace, checkpoint: Kept, **engine: Any) -> ServeConfig:
    """Seeded requests; every eighth repeats the prompt of the one before it, which the prefix cache finds."""
    draws = np.random.default_rng(5)
    requests: list[dict[str, Any]] = []
    for index in range(args.requests):
        prompt = draws.integers(0, checkpoint.config.vocab_size, int(draws.integers(16, 301))).tolist()
        if index % 8 == 7:
            prompt = requests[-1]["prompt_token_ids"]
        sampling: dict[str, Any] = {"temperature": 0} if index % 2 else {"top_p": 0.95, "seed": index}
        sampling |= {"max_tokens": args.output, "ignore_eos": True}
        requests.append({"prompt_token_ids": prompt, "arrival": index // 8, "sampling": sampling})
    return serve_config({"model": args.model, "engine": {**ENGINE, **engine}, "requests": requests})


def run(config: ServeConfig, checkpoint: Kept, path: Path, plan: TraceReader | None = None) -> float:
    """Record a run; gives the seconds of its steps."""
    gc.collect()
    forced = None if plan is None else plan.taken_tokens()
    engine = BuiltinEngine(config, checkpoint, resolve_requests(config, checkpoint), forced=forced)
    scheduler: Scheduler = engine.own_scheduler()
    if plan is not None:
        scheduler = engine.follow(ForcedSchedule(plan))
    recording = run_recorded(engine, scheduler, replace(config, requests=()), str(path), overwrite=True)
    return recording.seconds


def row(name: str, recorded: Path, replayed: Path, seconds: float, base: float) -> str:
    """One line of the table."""
    found = compare(TraceReader(str(recorded)), TraceReader(str(replayed)))
    first = found.first
    where = "" if first is None else f"step {first.step}, {first.request}, position {first.position}, "
    where += "" if first is None else f"layer {first.layer}, {first.op}"
    cells = f"{found.counts.equal:,} of {found.counts.compared:,}"
    return f"| {name} | {found.verdict} | {where} | {cells} | {seconds:.2f} | {seconds / base:.2f} |"


def table(args: argparse.Namespace, checkpoint: Kept, folder: Path) -> None:
    """Record, replay, compare, print."""
    print("| replay | verdict | first | equal fingerprints | steps s | against recording |")
    print("|---|---|---|---|---|---|", flush=True)
    first, again = folder / "recorded.zarr", folder / "replayed.zarr"
    config = config_of(args, checkpoint)
    # once to compile every kernel, which is no part of either side
    run(config, checkpoint, first)
    pairs = []
    for _ in range(args.rounds):
        recording = run(config, checkpoint, first)
        pairs.append((recording, run(config, checkpoint, again, TraceReader(str(first)))))
    base, seconds = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(replayed / recorded for recorded, replayed in pairs)
    print(row("schedule forced (bar 1.10)", first, again, seconds, seconds / ratio), flush=True)
    for engine in FREE:
        seconds = run(config_of(args, checkpoint, **engine), checkpoint, again)
        name = ", ".join(f"{key}={value}" for key, value in engine.items())
        print(row(name, first, again, seconds, base), flush=True)
    run(config_of(args, checkpoint, deterministic=False), checkpoint, first)
    for engine in FREE[:3]:
        seconds = run(config_of(args, checkpoint, deterministic=False, **engine), checkpoint, again)
        name = ", ".join(f"{key}={value}" for key, value in engine.items())
        print(row(f"vendor kernels, {name}", first, again, seconds, base), flush=True)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="builtin:qwen2-7b")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--output", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3, help="of recording and forced replay, by turns")
    args = parser.parse_args()
    keep_weights()
    with tempfile.TemporaryDirectory() as folder:
        table(args, Kept(args.model), Path(folder))


if __name__ == "__main__":
    main()

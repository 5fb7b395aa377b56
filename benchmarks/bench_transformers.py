"""transformers on a GPU: which bits are the same again, with torch's kernels and detrec's, and what it costs.

    python -m benchmarks.bench_transformers [--model builtin:smollm2-135m] [--dtypes bfloat16 ...]

Each line is a recording by transformers' own scheduler, replayed twice: as it was scheduled, which must be
identical, and in batches of other sizes, which with detrec's invariant kernels must be identical too. There,
torch's kernels in bfloat16 must diverge, or the line above them shows nothing. Exits 1 where one does not.
Costs are medians over rounds, of decode steps; ratios are taken round by round.
"""

import argparse
import statistics
import sys
import tempfile
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workload import Times, timed
from detrec.config import ServeConfig, serve_config
from detrec.engines.builtin.weights import Checkpoint, open_checkpoint
from detrec.engines.start import start_engine
from detrec.engines.transformers import engine as engine_module
from detrec.recorder.record import manifest, open_probe, record
from detrec.recorder.writer import TraceWriter
from detrec.replayer.replay import replay

ROWS, OTHER_ROWS = 256, 24
"""Rows of a step at most: as recorded, and as replayed in other batches."""
HEADS = (
    *("dtype", "kernels", "replayed", "in other batches", "first to differ"),
    *("decode step ms", "recorded, level op", "of it"),
)


def config_of(args: argparse.Namespace, dtype: str, *, invariant: bool) -> ServeConfig:
    """Greedy requests of unequal length, each two steps after the one before it."""
    draws = np.random.default_rng(1)
    vocabulary = open_checkpoint(args.model).config.vocab_size
    sampling = {"temperature": 0, "max_tokens": args.output, "ignore_eos": True}
    engine = {"name": "transformers", "device": args.device, "dtype": dtype, "max_batch_tokens": ROWS}
    requests = [
        {
            "prompt_token_ids": draws.integers(0, vocabulary, 5 + 13 * index).tolist(),
            "arrival": 2 * index,
            "sampling": sampling,
        }
        for index in range(args.requests)
    ]
    engine["invariant_kernels"] = invariant
    return serve_config({"model": args.model, "engine": engine, "requests": requests})


def keep_models() -> None:
    """From now on engines of one dtype share one model: to make it is not what is timed."""
    build, kept = engine_module.build, dict[str, Any]()

    def built(checkpoint: Checkpoint, dtype: str, device: str, attention: str) -> Any:
        if dtype not in kept:
            kept.clear()
            kept[dtype] = build(checkpoint, dtype, device, attention)
        # batches change it for their own
        kept[dtype].set_attn_implementation(attention)
        return kept[dtype]

    engine_module.build = built


def replayed(config: ServeConfig) -> tuple[str, str, str]:
    """What a replay of its schedule says, what one in other batches says, and where that first differs."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "run.zarr")
        record(config, path)
        again = replay(path).comparison
        other = replay(path, mode="tokens", overrides=[f"engine.max_batch_tokens={OTHER_ROWS}"]).comparison
    assert other.schedule_diff.total, "the batches are the same"
    if other.first is None:
        return again.verdict, other.verdict, ""
    layer = "" if other.first.layer is None else f"{other.first.layer}."
    place = f"{layer}{other.first.op} of {other.first.request} at {other.first.position}"
    return again.verdict, other.verdict, place


def run(config: ServeConfig, *, recorded: bool) -> Times:
    """One run of an engine of its own."""
    with closing(start_engine(config)) as engine, tempfile.TemporaryDirectory() as folder:
        scheduler = engine.own_scheduler()
        if not recorded:
            return timed(engine.run(scheduler))
        about = {"manifest": manifest(config, engine), "requests": engine.requests, "ops": engine.op_names}
        with TraceWriter(str(Path(folder) / "run.zarr"), **about) as writer:
            probe = open_probe(writer, engine.op_names, engine)
            return timed(engine.run(scheduler, probe, frozenset(engine.op_names)), probe.finish)


def costs(config: ServeConfig, rounds: int) -> tuple[str, str, str]:
    """Milliseconds of a decode step, of one that is recorded, and how many times the first that is."""
    step = [
        [statistics.median(run(config, recorded=recorded).settled) for recorded in (False, True)]
        for _ in range(rounds)
    ]
    plain, watched = (statistics.median(side) for side in zip(*step, strict=True))
    ratio = statistics.median(watched / plain for plain, watched in step)
    return f"{1e3 * plain:.2f}", f"{1e3 * watched:.2f}", f"{ratio:.3f}"


def machine(args: argparse.Namespace) -> str:
    """What was measured."""
    found = [args.model, *(f"{name} {version(name)}" for name in ("torch", "transformers", "triton"))]
    if args.device == "gpu":
        import torch

        found.append(torch.cuda.get_device_name())
    return ", ".join(found)


def main() -> None:
    """Parse, run, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--device", default="gpu", choices=("cpu", "gpu"))
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float16", "float32"])
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--output", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    wrong = []
    keep_models()
    print(machine(args))
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}", flush=True)
    for dtype in args.dtypes:
        for invariant in (False, True):
            config = config_of(args, dtype, invariant=invariant)
            again, other, place = replayed(config)
            name = "detrec's" if invariant else "torch's"
            cells = [dtype, name, again, other, place, *costs(config, args.rounds)]
            print(f"| {' | '.join(cells)} |", flush=True)
            expected = "identical" if invariant else "diverged" if dtype == "bfloat16" else other
            if (again, other) != ("identical", expected):
                wrong.append(
                    f"{dtype}, {name} kernels: {again} and {other}, expected identical and {expected}"
                )
    for line in wrong:
        print(line)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

"""A small trace on a GPU, replayed many times: every verdict counts.

    python -m benchmarks.soak [--times 1000]

A deterministic engine that is right a thousand times can still be wrong, but one that is wrong once is wrong.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from detrec.config import serve_config
from detrec.recorder.record import record
from detrec.replayer.replay import replay

PROMPTS = ([1, 2, 3, 4, 5, 6, 7], list(range(100, 140)), [9, 9, 9])
ENGINE = {
    "framework": "torch", "device": "gpu", "dtype": "bfloat16", "max_model_len": 64, "max_num_seqs": 4,
    "max_num_batched_tokens": 32,
}  # fmt: skip


def main() -> None:
    """Parse, record once, replay, print the count of each verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--model", default="builtin:qwen2-tiny")
    args = parser.parse_args()
    requests = [
        {"prompt_token_ids": prompt, "arrival": index, "sampling": {"max_tokens": 6, "top_p": 0.9}}
        for index, prompt in enumerate(PROMPTS)
    ]
    config = serve_config({"model": args.model, "engine": ENGINE, "requests": requests})
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "run.zarr")
        record(config, path)
        begin = time.perf_counter()
        verdicts = Counter(replay(path).comparison.verdict for _ in range(args.times))
        seconds = time.perf_counter() - begin
    print(f"{args.times} replays in {seconds:.0f} s: {dict(verdicts)}")
    raise SystemExit(0 if set(verdicts) == {"identical"} else 1)


if __name__ == "__main__":
    main()

"""Workloads drawn from a literal seed: chunks, prefix-cache hits, preemption and every kind of sampling."""

import random
from typing import Any

from detrec.config import ServeConfig, serve_config

SEEDS = (11, 23, 47)

# what may be changed without changing a bit, as `--set` takes it
CLEAN = (
    (),
    ("engine.max_num_seqs=1",),
    ("engine.max_num_batched_tokens=64",),
    ("engine.max_num_batched_tokens=16", "engine.max_num_seqs=3"),
    ("engine.enable_prefix_caching=false",),
    ("engine.enable_chunked_prefill=false",),
    ("engine.split_kv_size=1",),
    ("engine.split_kv_size=32",),
    ("engine.block_size=8", "engine.num_gpu_blocks_override=40"),
    ("engine.num_gpu_blocks_override=64",),
)


def workload(seed: int, ranks: int = 1) -> ServeConfig:
    """Six requests of 20 to 76 prompt tokens: `again` repeats `first`, `branch` begins like it."""
    draw = random.Random(seed)
    first = [draw.randrange(256) for _ in range(draw.randint(60, 76))]
    prompts: dict[str, tuple[int, list[int], dict[str, Any]]] = {
        "first": (0, first, {"temperature": 0}),
        "drawn": (0, _tokens(draw, 20, 40), {"temperature": 0.9, "seed": draw.randrange(1 << 30)}),
        "filtered": (1, _tokens(draw, 40, 56), {"temperature": 1.1, "top_k": 20, "top_p": 0.9, "seed": 5}),
        "penalised": (2, _tokens(draw, 20, 30), {"repetition_penalty": 1.2, "frequency_penalty": 0.3}),
        "again": (draw.randint(5, 7), first, {"temperature": 0}),
        "branch": (
            draw.randint(7, 9),
            [*first[:32], *_tokens(draw, 5, 30)],
            {"temperature": 0.7, "min_p": 0.05},
        ),
    }
    requests = [
        {
            "id": name,
            "prompt_token_ids": tokens,
            "arrival": arrival,
            "sampling": {"max_tokens": draw.randint(10, 14), "ignore_eos": True, **sampling},
        }
        for name, (arrival, tokens, sampling) in prompts.items()
    ]
    engine: dict[str, Any] = {
        "max_model_len": 128,
        "max_num_seqs": 5,
        "max_num_batched_tokens": draw.choice([32, 40]),
        "num_gpu_blocks_override": draw.choice([11, 12]),
        "split_kv_size": 16,
        "tensor_parallel_size": ranks,
    }
    return serve_config({"model": "builtin:qwen2-tiny", "engine": engine, "requests": requests})


def _tokens(draw: random.Random, least: int, most: int) -> list[int]:
    return [draw.randrange(256) for _ in range(draw.randint(least, most))]

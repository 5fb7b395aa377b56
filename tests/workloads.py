"""Workloads and engine settings drawn from a literal seed: small, and awkward on purpose."""

import random
from typing import Any

MODELS = ("qwen2-tiny", "qwen3-tiny", "llama-tiny")
CONTEXT = 160


def requests(generator: random.Random) -> list[dict[str, Any]]:
    """Four to nine requests: shared prefixes, late arrivals, every kind of sampling."""
    prefix = [generator.randrange(256) for _ in range(generator.choice([16, 24, 40]))]
    return [
        {
            "id": f"r{index}",
            "prompt_token_ids": prompt(generator, prefix),
            "arrival": generator.choice([0, 0, generator.randrange(12)]),
            "sampling": sampling(generator),
        }
        for index in range(generator.randint(4, 9))
    ]


def prompt(generator: random.Random, prefix: list[int]) -> list[int]:
    """Tokens of its own, sometimes after the prefix; sometimes the prefix and nothing else."""
    shared = prefix if generator.random() < 0.5 else []
    own = generator.choice([1, 7, 16, 33, generator.randint(1, 60)]) if generator.random() < 0.9 else 0
    return [*shared, *(generator.randrange(256) for _ in range(own))] or prefix


def sampling(generator: random.Random) -> dict[str, Any]:
    """Greedy or drawn, filtered or not, penalised or not."""
    params: dict[str, Any] = {
        "max_tokens": generator.randint(1, 18),
        "temperature": generator.choice([0.0, 0.5, 1.0, 1.7]),
    }
    if generator.random() < 0.4:
        params["top_k"] = generator.choice([1, 5, 40, 100000])
    if generator.random() < 0.4:
        params["top_p"] = generator.choice([0.1, 0.8, 0.99])
    if generator.random() < 0.3:
        params["min_p"] = generator.choice([0.01, 0.3])
    if generator.random() < 0.4:
        params["repetition_penalty"] = generator.choice([0.8, 1.1, 1.5])
    if generator.random() < 0.3:
        params |= {"presence_penalty": generator.choice([-0.5, 0.7]), "frequency_penalty": 0.3}
    if generator.random() < 0.6:
        params["seed"] = generator.choice([0, 1, generator.randrange(1 << 59)])
    if generator.random() < 0.3:
        params |= {"stop_token_ids": [generator.randrange(512) for _ in range(60)]}
        params["min_tokens"] = generator.randint(0, min(4, params["max_tokens"]))
    return params


def schedule(generator: random.Random, needs: list[int]) -> dict[str, Any]:
    """Engine settings that decide when a token runs and where its KV lies, and nothing else.

    `needs`: how many tokens each request can come to. The KV blocks hold the longest, and little more.
    """
    split = generator.choice([1, 8, 16, 32])
    block_size = generator.choice([4, 8, 16, 32])
    longest = -(-max(needs) // block_size)
    spare = generator.choice([0, 1, 3, sum(needs) // block_size + len(needs)])
    return {
        "max_num_seqs": generator.choice([1, 2, 4, 9]),
        "max_num_batched_tokens": split * generator.choice([1, 2, 3]) + generator.choice([0, 5]),
        "block_size": block_size,
        "num_gpu_blocks_override": longest + spare,
        "enable_prefix_caching": generator.random() < 0.6,
        "enable_chunked_prefill": generator.random() < 0.8,
        "split_kv_size": split,
    }

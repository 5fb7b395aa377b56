"""Requests that make the stand-in for FastDeploy work, as a serve.yaml has them."""

import json

import pytest

from detrec.config import serve_config
from detrec.recorder.record import record

# fourteen blocks of four are too few for all three: somebody is preempted
ENGINE = {"max_num_batched_tokens": 20, "num_gpu_blocks_override": 14, "max_num_seqs": 3}
REQUESTS = [
    {
        "id": "long",
        "prompt_token_ids": list(range(2, 30)),
        "sampling": {"temperature": 0.5, "max_tokens": 8},
    },
    {"id": "seeded", "prompt_token_ids": [5, 6, 7], "sampling": {"seed": 7, "max_tokens": 20}},
    {"id": "text", "prompt": "hello there, you", "sampling": {"temperature": 0.8, "max_tokens": 12}},
]


def config(requests=REQUESTS, **engine):
    section = {"name": "fastdeploy", **ENGINE, **engine}
    return serve_config({"model": "tiny", "engine": section, "requests": requests})


def record_together(serve, path, **options):
    """Record with all requests there before the first step, so that every run has the same steps."""
    from fastdeploy.engine.engine import LLMEngine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LLMEngine, "expected", len(serve.requests))
        return record(serve, str(path), **options)


def serve_yaml(folder):
    path = folder / "serve.yaml"
    engine = {"name": "fastdeploy", **ENGINE, "tensor_parallel_size": 1}
    path.write_text(json.dumps({"model": "tiny", "engine": engine, "requests": REQUESTS}))
    return path

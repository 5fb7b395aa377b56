"""A recording to be replayed with faults, and what most of them leave to be measured."""

from pathlib import Path

from detrec.config import serve_config
from detrec.recorder.record import record
from detrec.replayer.findings import Batches, Graft
from tests.engines.small import prompt, request

SHARED = prompt(5, 32)
REQUESTS = [
    request("a", [*SHARED, *prompt(1, 9)], max_tokens=9),
    request("b", prompt(2, 20), 1, temperature=0.9, seed=3, repetition_penalty=1.2, max_tokens=9),
    # its beginning is in the cache by then
    request("c", [*SHARED, *prompt(3, 5)], 4, temperature=1.1, top_p=0.9, seed=8, max_tokens=6),
]
ENGINE = {
    "max_model_len": 96,
    "max_num_batched_tokens": 32,
    "block_size": 16,
    "enable_prefix_caching": True,
}

BORN = Graft((), "replayed", "recorded")
GONE = Graft((), "recorded", "recorded")
STEADY = Batches(alone=True, permuted=True, padded=True)


def recorded(path: Path, level: str = "op", fault: str = "") -> str:
    """The path of a trace of that workload."""
    settings = {
        "model": "builtin:qwen2-tiny",
        "engine": ENGINE,
        "requests": REQUESTS,
        "record": {"level": level},
    }
    record(serve_config(settings), str(path), fault=fault)
    return str(path)

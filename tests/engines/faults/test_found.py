"""Where a fault says that it changed the first bit is where a comparison of two traces finds it."""

from pathlib import Path

import pytest

from detrec.config import serve_config
from detrec.engines.faults.base import Sighting
from detrec.recorder.record import record
from detrec.replayer.replay import replay
from tests.engines.small import prompt, request

DRAWN = {"temperature": 1.0, "ignore_eos": True, "max_tokens": 12}
# 9 blocks of 8 are too few for everybody, and `again` finds what `a` left
CONFIG = {
    "model": "builtin:qwen2-tiny",
    "engine": {
        "max_model_len": 128,
        "max_num_batched_tokens": 20,
        "block_size": 8,
        "split_kv_size": 8,
        "num_gpu_blocks_override": 9,
    },
    "requests": [
        request("a", prompt(1, 26), max_tokens=12),
        request("b", prompt(2, 15), seed=3, top_p=0.9, **DRAWN),
        request("c", prompt(3, 9), 1, repetition_penalty=1.3, seed=5, **DRAWN),
        request("again", prompt(1, 26), 4, max_tokens=6),
    ],
}
# what each says by which op the first bit is changed
FAULTS = {
    "wrong_block": "attn",
    "misplaced_write": "attn",
    "phantom_row": "attn",
    "early_eviction": "attn",
    "resume_by_prefill": "attn",
    "row0_seed": "sampled",
    "offset_drift": "sampled",
    "renorm_race": "sampled",
    "sampler_by_batch": "logprobs",
    "stale_logprobs": "logprobs",
    "penalty_race": "logits_penalised",
    "sampling_defaults": "logits_penalised",
    "changed_prompt": "embedding",
}


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traces") / "run.zarr"
    record(serve_config(CONFIG), str(path))
    return path


def found(trace: Path, fault: str, mode: str) -> tuple[str, str]:
    """The one place that the fault tells and the one that the comparison gives."""
    notices: list[str] = []
    first = replay(str(trace), fault=fault, mode=mode, notify=notices.append).comparison.first
    (told,) = (text for text in notices if text.startswith("fault "))
    assert first is not None, told
    name = first.op if first.layer is None else f"{first.layer}.{first.op}"
    return (
        told,
        f"fault {fault}: first bit changed at {Sighting(first.step, first.request, first.position, name)}",
    )


@pytest.mark.parametrize(("fault", "op"), FAULTS.items())
def test_the_replay_names_the_place_that_the_fault_tells(trace, fault, op):
    told, place = found(trace, fault, "schedule")
    assert told == place
    assert told.endswith(f"op {op}")


def test_a_chunk_of_another_size_is_found_where_the_scheduler_decides(trace):
    told, place = found(trace, "greedy_chunk", "tokens")
    assert told == place

"""What is measured where one side cannot be run again, or not as it was; and a model whose file changed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from detrec.config import serve_config
from detrec.engines.builtin.bfloat16 import stored
from detrec.engines.builtin.hf_config import from_hf
from detrec.engines.builtin.safetensors import stored_tensors
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import record
from detrec.replayer.compare import compare
from detrec.replayer.diagnose import Made, find, inspect
from detrec.replayer.findings import Draw, Reference
from detrec.replayer.replay import replay
from tests.engines.builtin.model_files import QWEN2, write_safetensors
from tests.replayer.diagnosing import GONE, STEADY, recorded


@pytest.fixture(scope="module")
def trace(tmp_path_factory) -> str:
    return recorded(tmp_path_factory.mktemp("recorded") / "run.zarr")


def test_what_raced_once_may_not_race_again(trace, tmp_path):
    """The replay diverged, and the second one, without the fault, does not: said, and no failure."""
    again = str(tmp_path / "replayed")
    fault = "bitflip:step=4,op=1.attn,bit=27"
    done = replay(trace, again, fault=fault)
    found = find(TraceReader(trace), TraceReader(again), done.comparison, Made())
    assert (found.again, found.reference, found.replays) == ("recorded", Reference(True), 2)
    assert found.graft == GONE
    assert (found.difference.elements, found.difference.pattern) == (0, "nothing")


def test_a_recording_that_cannot_be_reproduced_is_said_so(tmp_path):
    """The fault was in the recording: the reference, without it, has other bits, and grafts nothing."""
    odd = recorded(tmp_path / "recorded", fault="bitflip:step=4,op=1.attn,bit=27")
    again = str(tmp_path / "replayed")
    done = replay(odd, again)
    found = find(TraceReader(odd), TraceReader(again), done.comparison, Made())
    assert (found.reference, found.again) == (Reference(False), "replayed")
    assert (found.graft, found.difference, found.cache) == (None, None, None)
    assert found.repeats.distinct == 1
    assert found.batches == STEADY


def test_a_reference_that_cannot_be_loaded_leaves_what_the_replay_shows(trace, tmp_path, monkeypatch):
    again, said = str(tmp_path / "replayed"), []
    fault = "split_k_by_batch:step=3,op=1.qkv,rows=24"
    done = replay(trace, again, fault=fault)
    ours = TraceReader(trace)
    ours.manifest["config"]["model"] = str(tmp_path / "gone.gguf")
    made = Made(overrides=("model=builtin:qwen2-tiny",), fault=fault, notify=said.append)
    found = find(ours, TraceReader(again), done.comparison, made)
    assert (found.reference, found.graft, found.replays, found.again) == (None, None, 1, "replayed")
    assert (found.repeats.distinct, found.batches) == (1, replace(STEADY, padded=False))
    (told,) = said
    assert told.startswith("diagnosis: the reference could not be run: ")
    assert "gone.gguf" in told


def test_two_traces_alone_show_what_they_show(trace, tmp_path):
    other = recorded(tmp_path / "other", fault="seed_drift:step=3")
    sides = TraceReader(trace), TraceReader(other)
    comparison = compare(*sides)
    found = inspect(*sides, comparison)
    assert found.draw == Draw(3, 7, found.first.position, found.first.position, equal_logprobs=True)
    assert (found.first, found.field, found.weights) == (comparison.first, "sample", ())
    assert found.kernels == comparison.kernels
    measured = (found.reference, found.graft, found.repeats, found.batches, found.difference, found.cache)
    assert measured == (None,) * 6
    assert (found.again, found.replays) == (None, 0)
    with pytest.raises(ValueError, match="without a divergent cell"):
        inspect(sides[0], sides[0], compare(sides[0], sides[0]))


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_a_bit_that_was_flipped_in_the_models_file_is_named(tmp_path, dtype):
    (tmp_path / "config.json").write_text(json.dumps(QWEN2))
    shapes = from_hf(QWEN2, None, where="config.json").shapes()
    draw = np.random.default_rng(2)
    tensors = {name: draw.standard_normal(shape).astype(np.float32) / 4 for name, shape in shapes.items()}
    weights = tmp_path / "model.safetensors"
    write_safetensors(
        weights,
        {name: stored(x, "bfloat16" if dtype is np.uint16 else "float32") for name, x in tensors.items()},
    )
    data = {"model": str(tmp_path), "engine": {"max_model_len": 64}, "requests": [
        {"prompt_token_ids": [5, 6, 7], "sampling": {"temperature": 0, "max_tokens": 3, "ignore_eos": True}}
    ]}  # fmt: skip
    record(serve_config(data), str(tmp_path / "run.zarr"))

    name, element, bit = "model.layers.1.mlp.up_proj.weight", 77, 6
    tensor, content = stored_tensors(weights)[name], bytearray(weights.read_bytes())
    content[tensor.start + element * np.dtype(dtype).itemsize] ^= 1 << bit
    weights.write_bytes(content)
    found = replay(str(tmp_path / "run.zarr"), diagnose=True)

    assert found.comparison.verdict == "diverged"
    assert found.diagnosis is not None
    assert (found.comparison.first.layer, found.comparison.first.op) == (1, "gate_up")
    assert found.diagnosis.cause == "corruption"
    assert f"bit {bit} of element {element} of {name}" in found.diagnosis.summary

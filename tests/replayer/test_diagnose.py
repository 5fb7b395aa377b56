"""From a divergence to what was measured of it: each fault's findings are what the fault is."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detrec.config import serve_config
from detrec.engines.builtin.bfloat16 import stored
from detrec.engines.builtin.hf_config import from_hf
from detrec.engines.builtin.model import op_names
from detrec.engines.builtin.safetensors import stored_tensors
from detrec.engines.builtin.seeded import SeededCheckpoint
from detrec.engines.faults.base import Sighting
from detrec.errors import ConfigError
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import record
from detrec.replayer.compare import compare
from detrec.replayer.diagnose import FIELDS, Made, find, inspect
from detrec.replayer.divergence import split_name
from detrec.replayer.findings import Batches, Draw, Findings, Graft, Reference, Weight
from detrec.replayer.replay import replay
from tests.engines.builtin.model_files import QWEN2, write_safetensors
from tests.engines.small import prompt, request
from tests.replayer.moments import moments

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

Diagnose = Callable[..., Findings]


@pytest.fixture(scope="module")
def traces(tmp_path_factory) -> dict[str, str]:
    """The workload recorded at either level."""
    folder = tmp_path_factory.mktemp("traces")
    for level in ("op", "layer"):
        settings = {
            "model": "builtin:qwen2-tiny",
            "engine": ENGINE,
            "requests": REQUESTS,
            "record": {"level": level},
        }
        record(serve_config(settings), str(folder / level))
    return {level: str(folder / level) for level in ("op", "layer")}


@pytest.fixture
def diagnosed(traces, tmp_path) -> Diagnose:
    def run(fault: str = "", *overrides: str, mode: str = "schedule", level: str = "op", **more) -> Findings:
        """Replay and diagnose; a fault is found exactly where it says that it acted."""
        said: list[str] = []
        about = {"fault": fault, "overrides": overrides, "mode": mode}
        again = str(tmp_path / "replayed")
        done = replay(traces[level], again, notify=said.append, overwrite=True, **about)
        sides = TraceReader(traces[level]), TraceReader(again)
        found = find(*sides, done.comparison, Made(**about, **more))
        if fault:
            told = next(text for text in said if text.startswith("fault "))
            at = found.first
            name = at.op if at.layer is None else f"{at.layer}.{at.op}"
            assert told.endswith(f" {Sighting(at.step, at.request, at.position, name)}")
        return found

    return run


def test_a_batch_variant_matmul_is_born_in_its_op_and_steady(diagnosed):
    found = diagnosed("split_k_by_batch:step=3,op=1.qkv,rows=24,splits=4")
    assert (found.field, found.first.op) == ("matmul", "qkv")
    assert found.reference == Reference(reproduces=True)
    assert (found.again, found.replays) == ("replayed", 2)
    assert found.graft == BORN
    assert found.repeats.distinct == 1
    assert found.repeats.times >= 8
    assert found.batches == replace(STEADY, padded=False)
    assert found.kernels == ("cpu.matmul fma-chain k=0..K", "cpu.split_k_matmul fma-chain leaves=4")
    assert found.difference.elements > found.difference.size / 4
    assert found.difference.finite
    assert (found.cache, found.draw, found.ranks) == (None, None, None)
    assert found.weights == found.manifest == found.schedule == ()


def test_a_matmul_that_always_splits_knows_no_batch(diagnosed):
    found = diagnosed("split_k_by_batch:step=3,op=2.down_partial,rows=100000,splits=2")
    assert (found.graft, found.repeats.distinct, found.batches) == (BORN, 1, STEADY)


@pytest.mark.parametrize("op", ["1.attn", "0.act", "3.kv_write", "logprobs", "embedding"])
def test_a_bit_that_flipped_once_does_not_flip_again(diagnosed, op):
    found = diagnosed(f"bitflip:step=4,op={op},row=1,element=3,bit=9")
    assert found.field == FIELDS[op.rpartition(".")[2]]
    assert (found.graft, found.repeats.distinct, found.batches) == (GONE, 1, STEADY)
    differs = found.difference
    assert (differs.elements, differs.rows, differs.flipped_bits) == (1, 1, 1)
    assert (differs.pattern, differs.max_ulp) == ("one element", 512)
    if op == "1.attn":
        assert (found.cache.unequal, found.cache.first) == (0, -1)


def test_a_drifting_seed_is_seen_in_the_draw(diagnosed):
    found = diagnosed("seed_drift:step=3,by=4")
    assert (found.field, found.graft, found.repeats.distinct) == ("sample", BORN, 1)
    assert found.draw == Draw(3, 7, found.first.position, found.first.position, equal_logprobs=True)
    assert "seed" in found.difference.pattern
    assert {difference.what for difference in found.schedule} == {"seed"}


@pytest.mark.parametrize("mode", ["schedule", "tokens", "free"])
def test_an_unaligned_chunk_shows_in_the_schedule_and_in_attention(diagnosed, mode):
    found = diagnosed("unaligned_chunk:by=5", mode=mode)
    assert (found.field, found.again) == ("attention", "replayed")
    assert found.graft == BORN
    assert (found.repeats.distinct, found.batches) == (1, STEADY)
    assert found.schedule[0].what == "boundaries"
    assert found.schedule[0].step < found.first.step
    assert found.cache.unequal == 0


def test_a_turned_weight_is_named_to_the_bit(diagnosed):
    found = diagnosed("weight_bitflip:step=3,op=1.gate_up,element=32868,bit=21")
    assert found.graft == Graft(("weight",), "recorded", "replayed")
    name = "model.layers.1.mlp.up_proj.weight"
    assert found.weights == (Weight(name, elements=1, element=32868 - 256 * 128, bit=21),)
    assert found.difference.pattern == f"column {32868 // 128}"
    norm = diagnosed("weight_bitflip:step=3,op=2.mlp_norm,element=7,bit=22")
    assert norm.weights == (Weight("model.layers.2.post_attention_layernorm.weight", 1, 7, 22),)
    assert norm.graft == Graft(("weight",), "recorded", "replayed")


@pytest.mark.parametrize("mode", ["schedule", "tokens"])
def test_the_frameworks_matmul_is_told_by_manifest_and_kernel(diagnosed, mode):
    found = diagnosed("", "engine.deterministic=false", mode=mode)
    assert [difference.key for difference in found.manifest] == ["config.engine.deterministic"]
    assert (found.first.layer, found.first.op, found.field) == (0, "qkv", "matmul")
    assert found.kernels == ("cpu.matmul fma-chain k=0..K", "paddle.matmul")
    assert (found.reference, found.again) == (Reference(True), "replayed")
    assert (found.graft, found.repeats.distinct) == (BORN, 1)


def test_another_number_format_is_other_from_the_first_op_on(diagnosed):
    found = diagnosed("", "engine.dtype=bfloat16")
    assert (found.first.op, found.field) == ("embedding", "embedding")
    assert found.reference == Reference(True)
    assert (found.difference, found.cache) == (None, None)
    assert found.weights == ()


@pytest.mark.parametrize("level", ["op", "layer"])
def test_kv_that_was_lost_was_written_alike(diagnosed, level):
    found = diagnosed("misplaced_write:step=2,request=a", level=level)
    assert found.graft == Graft(("cache",), "recorded", "replayed")
    assert (found.cache.unequal, found.cache.written_alike, found.cache.hit) == (1, True, False)
    assert found.repeats.distinct == 1


@pytest.mark.parametrize(
    "fault",
    [
        "split_k_by_batch:step=3,op=1.gate_up,rows=24",
        "bitflip:step=4,op=2.rope_k,row=1",
        "bitflip:step=4,op=2.output,row=1",
        "weight_bitflip:step=3,op=1.o_partial,element=300,bit=20",
    ],
)
def test_a_trace_of_layers_is_narrowed_down_to_the_op(diagnosed, fault):
    found, whole = diagnosed(fault, level="layer"), diagnosed(fault)
    assert found.first == whole.first
    assert (found.field, found.kernels, found.graft) == (whole.field, whole.kernels, whole.graft)
    assert (found.difference, found.weights) == (whole.difference, whole.weights)
    assert found.batches == whole.batches


def test_a_race_is_not_taken_for_the_batch(diagnosed):
    found = diagnosed("racing_matmul:step=3,op=1.o_partial")
    assert found.repeats.distinct > 1
    assert found.graft.unequal_inputs == ()


def test_what_raced_once_may_not_race_again(traces, tmp_path):
    """The replay diverged, and the second one, without the fault, does not: said, and no failure."""
    again = str(tmp_path / "replayed")
    fault = "bitflip:step=4,op=1.attn,bit=27"
    done = replay(traces["op"], again, fault=fault)
    found = find(TraceReader(traces["op"]), TraceReader(again), done.comparison, Made())
    assert (found.again, found.reference, found.replays) == ("recorded", Reference(True), 2)
    assert found.graft == GONE
    assert (found.difference.elements, found.difference.pattern) == (0, "nothing")


def test_a_recording_that_cannot_be_reproduced_is_said_so(tmp_path):
    """The fault was in the recording: the reference, without it, has other bits, and grafts nothing."""
    recorded, again = str(tmp_path / "recorded"), str(tmp_path / "replayed")
    settings = {"model": "builtin:qwen2-tiny", "engine": ENGINE, "requests": REQUESTS}
    record(serve_config(settings), recorded, fault="bitflip:step=4,op=1.attn,bit=27")
    done = replay(recorded, again)
    found = find(TraceReader(recorded), TraceReader(again), done.comparison, Made())
    assert (found.reference, found.again) == (Reference(False), "replayed")
    assert (found.graft, found.difference, found.cache) == (None, None, None)
    assert found.repeats.distinct == 1
    assert found.batches == STEADY


def test_a_reference_that_cannot_be_loaded_leaves_what_the_replay_shows(traces, tmp_path, monkeypatch):
    again, said = str(tmp_path / "replayed"), []
    fault = "split_k_by_batch:step=3,op=1.qkv,rows=24"
    done = replay(traces["op"], again, fault=fault)
    recorded = TraceReader(traces["op"])
    recorded.manifest["config"]["model"] = str(tmp_path / "gone.gguf")
    made = Made(overrides=("model=builtin:qwen2-tiny",), fault=fault, notify=said.append)
    found = find(recorded, TraceReader(again), done.comparison, made)
    assert (found.reference, found.graft, found.replays, found.again) == (None, None, 1, "replayed")
    assert (found.repeats.distinct, found.batches) == (1, replace(STEADY, padded=False))
    (told,) = said
    assert told.startswith("diagnosis: the reference could not be run: ")
    assert "gone.gguf" in told


def test_two_traces_alone_show_what_they_show(traces, tmp_path):
    other = str(tmp_path / "other")
    settings = {"model": "builtin:qwen2-tiny", "engine": ENGINE, "requests": REQUESTS}
    record(serve_config(settings), other, fault="seed_drift:step=3")
    sides = TraceReader(traces["op"]), TraceReader(other)
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


def test_both_sides_tensors_can_be_kept(diagnosed, tmp_path):
    folder = tmp_path / "kept" / "here"
    found = diagnosed("bitflip:step=4,op=1.attn,row=1,element=3,bit=9", keep_tensors=folder)
    about = json.loads((folder / "README.json").read_text())
    assert set(about) == {"recorded", "replayed"}
    assert (about["replayed"]["op"], about["replayed"]["step"]) == ("1.attn", found.first.step)
    outputs = [np.load(folder / f"{side}.output.npy") for side in about]
    differ = np.argwhere(outputs[0] != outputs[1])
    assert differ.tolist() == [[1, 3]]
    place = about["recorded"]["rows"][1]
    assert (place["request"], place["position"]) == (found.first.request, found.first.position)
    for side in about.values():
        for file, says in side["files"].items():
            array = np.load(folder / file)
            assert (list(array.shape), str(array.dtype)) == (says["shape"], says["dtype"])
    assert {"q", "cache", "positions.block_tables", "output"} <= {
        file.split(".", 1)[1].removesuffix(".npy") for file in about["recorded"]["files"]
    }
    weights = diagnosed("split_k_by_batch:step=3,op=1.qkv,rows=24", keep_tensors=folder)
    assert weights.first.op == "qkv"
    assert np.load(folder / "recorded.weight.npy").shape == (256, 128)


def test_a_folder_that_cannot_be_made_is_refused(diagnosed, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"--keep-tensors .*file/x: cannot be written"):
        diagnosed("bitflip:step=4,bit=27", keep_tensors=Path(tmp_path / "file" / "x"))


@pytest.mark.parametrize("model", ["qwen2-tiny", "qwen3-tiny"])
def test_every_op_is_known_by_the_field_that_runs_it(model):
    ran = {name: moment.field for name, moment in moments(model=model).items()}
    names = op_names(SeededCheckpoint(model).config)
    assert {name: FIELDS[split_name(name)[1]] for name in names} == ran


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

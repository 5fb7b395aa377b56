"""From a divergence to what was measured of it: each fault's findings are what the fault is."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detrec.engines.builtin.model import op_names
from detrec.engines.builtin.seeded import SeededCheckpoint
from detrec.engines.faults.base import Sighting
from detrec.errors import ConfigError
from detrec.recorder.reader import TraceReader
from detrec.replayer.diagnose import FIELDS, Made, find
from detrec.replayer.divergence import split_name
from detrec.replayer.findings import Draw, Findings, Graft, Reference, Weight
from detrec.replayer.replay import replay
from tests.replayer.diagnosing import BORN, GONE, STEADY, recorded
from tests.replayer.moments import moments

Diagnose = Callable[..., Findings]


@pytest.fixture(scope="module")
def traces(tmp_path_factory) -> dict[str, str]:
    """The workload recorded at either level."""
    folder = tmp_path_factory.mktemp("traces")
    return {level: recorded(folder / level, level) for level in ("op", "layer")}


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

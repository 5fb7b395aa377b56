"""The main job, as a user does it: record the root serve.yaml, replay it every way, break it, find it."""

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from detrec.engines.builtin.model import op_names
from detrec.engines.builtin.seeded import SeededCheckpoint
from detrec.recorder.reader import TraceReader
from tests.command import detrec, soon

SIGHTING = re.compile(
    r"first bit changed at step (\d+), request ([\w-]+), position (\d+), (?:layer (\d+), )?op (\w+)"
)


def replayed(run: Path, *args: object, **environment: str) -> dict:
    """The JSON of a replay that must end with the code its verdict says."""
    done = soon("replay", run, "--json", *args, **environment)
    assert done.code in (0, 1), f"detrec replay {run} {' '.join(map(str, args))}\n{done.stderr}"
    data = done.json()
    assert data["verdict"] == ("diverged" if done.code else "identical")
    return {**data, "stderr": done.stderr}


def test_the_workload_exercises_the_engine(run):
    trace = TraceReader(run)
    steps = list(trace.steps())
    kinds = [{str(part.kind) for part in step.slices} for step in steps]
    events = [str(event.kind) for step in steps for event in step.events]
    assert {"prefill", "decode"} in kinds
    assert "hit" in events
    assert "preempted" in events
    assert any(not part.samples for step in steps for part in step.slices)
    temperatures = {request.sampling.temperature for request in trace.requests}
    assert 0.0 in temperatures
    assert len(temperatures) > 1


def test_a_replay_is_identical_in_every_cell_that_ran(run):
    data = replayed(run)
    trace = TraceReader(run)
    names = tuple(op_names(SeededCheckpoint("qwen2-tiny").config))
    assert trace.ops == names
    assert data["verdict"] == "identical"
    assert data["first"] is None
    # a row that ran twice, after a preemption, is compared once; four ops run only where a token is drawn
    rows = len({(int(r), int(p)) for r, p in zip(trace.row_request, trace.row_position, strict=True)})
    samples = trace.samples()
    drawn = len({(int(r), int(p)) for r, p in zip(samples.request, samples.position, strict=True)})
    assert data["counts"]["compared"] == rows * (len(names) - 4) + drawn * 4
    assert data["counts"] == {
        "compared": data["counts"]["compared"],
        "equal": data["counts"]["compared"],
        "born": 0,
        "inherited": 0,
        "missing": 0,
    }
    assert data["tokens"] == {"equal": True, "first_flip": None}
    assert data["manifest_diff"] == []
    assert data["schedule_diff"] == []


@pytest.mark.parametrize(
    ("args", "environment"),
    [
        pytest.param(["--set", "engine.max_num_seqs=1"], {}, id="one sequence"),
        pytest.param(["--set", "engine.max_num_batched_tokens=64"], {}, id="another budget"),
        pytest.param(["--set", "engine.enable_prefix_caching=false"], {}, id="no prefix cache"),
        pytest.param(["--set", "engine.enable_chunked_prefill=false"], {}, id="no chunks"),
        pytest.param(["--set", "engine.split_kv_size=1"], {}, id="chunks cut anywhere"),
        pytest.param(
            ["--set", "engine.block_size=8", "--set", "engine.num_gpu_blocks_override=40"],
            {},
            id="smaller blocks",
        ),
        pytest.param(["--set", "engine.num_gpu_blocks_override=64"], {}, id="no preemption"),
        pytest.param([], {"NUMBA_NUM_THREADS": "1"}, id="one thread"),
        pytest.param([], {"NUMBA_NUM_THREADS": "2"}, id="two threads"),
        pytest.param([], {"NUMBA_CPU_NAME": "generic"}, id="generic code"),
    ],
)
def test_the_whole_engine_is_batch_invariant(run, args, environment):
    data = replayed(run, "--mode", "free", *args, **environment)
    assert data["verdict"] == "identical"
    assert data["counts"]["missing"] == 0
    assert data["counts"]["compared"] > 0
    if args:
        key = args[-1].partition("=")[0]
        assert f"config.{key}" in {difference["key"] for difference in data["manifest_diff"]}


def test_forced_tokens_leave_the_schedule_to_the_engine(run):
    data = replayed(run, "--mode", "tokens", "--set", "engine.max_num_seqs=2")
    assert data["verdict"] == "identical"
    assert data["schedule_diff"]


def test_a_replay_can_end_with_a_step_and_is_compared_so_far(run):
    whole, part = replayed(run), replayed(run, "--until", "6")
    assert (part["verdict"], part["until"]) == ("identical", 6)
    assert "until" not in whole
    assert 0 < part["counts"]["compared"] < whole["counts"]["compared"]
    assert part["counts"]["missing"] == 0
    assert not part["schedule_diff"]
    # in the last step there is nothing that could be left out
    last = replayed(run, "--until", str(TraceReader(run).n_steps - 1))
    assert last["counts"] == whole["counts"]


def test_a_replay_that_ends_before_a_divergence_does_not_see_it(run):
    fault = ("--fault", "bitflip:step=5,op=1.act,element=0,bit=30", "--no-diagnose")
    assert replayed(run, *fault, "--until", "4")["verdict"] == "identical"
    seen = replayed(run, *fault, "--until", "5")
    assert (seen["verdict"], seen["first"]["step"]) == ("diverged", 5)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        pytest.param(["--until", "999"], "has steps 0 to ", id="a step that is not there"),
        pytest.param(["--until", "3", "--mode", "free"], "with --mode free no step", id="free"),
    ],
)
def test_a_step_at_which_no_replay_can_end_is_an_error(run, args, says):
    found = detrec("replay", run, *args)
    assert found.code == 2
    assert says in found.stderr


def test_tokens_that_are_forced_can_end_early_too(run):
    data = replayed(run, "--mode", "tokens", "--until", "6")
    assert data["verdict"] == "identical"
    assert data["counts"]["missing"] == 0


FAULTS = [
    pytest.param("split_k_by_batch", id="split_k_by_batch"),
    pytest.param("split_k_by_batch:step=5,op=3.down_partial,splits=2", id="split_k_by_batch elsewhere"),
    pytest.param("unaligned_chunk", id="unaligned_chunk"),
    pytest.param("unaligned_chunk:step=4,by=3", id="unaligned_chunk later"),
    pytest.param("seed_drift", id="seed_drift"),
    pytest.param("seed_drift:step=9,by=1", id="seed_drift later"),
    pytest.param("bitflip", id="bitflip"),
    pytest.param("bitflip:step=7,op=2.kv_write,row=1,element=40,bit=30", id="bitflip in the KV cache"),
    pytest.param("bitflip:step=3,op=0.o_proj,bit=0", id="bitflip after the all-reduce"),
    pytest.param("bitflip:step=6,op=logits,element=400,bit=20", id="bitflip outside layers"),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_exactly_where_it_was_born(run, fault):
    data = replayed(run, "--fault", fault)
    seen = SIGHTING.search(data["stderr"])
    assert seen, data["stderr"]
    step, request, position, layer, op = seen.groups()
    first = data["first"]
    assert (first["step"], first["request"], first["position"]) == (int(step), request, int(position))
    assert (first["layer"], first["op"]) == (None if layer is None else int(layer), op)
    assert first["rank"] == 0
    assert first["recorded"] != first["replayed"]


def test_a_fault_shows_in_a_free_replay_too(run):
    data = replayed(run, "--mode", "free", "--fault", "bitflip:step=4,op=1.attn,element=3,bit=27")
    assert data["verdict"] == "diverged"
    assert (data["first"]["layer"], data["first"]["op"]) == (1, "attn")


def test_two_recordings_differ_in_uuid_and_times_alone(run, tmp_path):
    other = tmp_path / "again.zarr"
    assert soon("record", "serve.yaml", "-o", other).code == 0
    files = {path.relative_to(run) for path in run.rglob("*") if path.is_file()}
    assert files == {path.relative_to(other) for path in other.rglob("*") if path.is_file()}
    differing = {str(name) for name in files if (run / name).read_bytes() != (other / name).read_bytes()}
    assert {name for name in differing if not name.startswith("steps/seconds/")} == {"zarr.json"}
    left, right = (json.loads((path / "zarr.json").read_text())["attributes"] for path in (run, other))
    assert {key for key in left if left[key] != right[key]} == {"uuid", "digests", "digest"}
    moved = {key for key in left["digests"] if left["digests"][key] != right["digests"][key]}
    assert all(key.startswith("steps/seconds/") for key in moved)


def test_a_seed_that_drifts_changes_no_input_where_tokens_are_forced(run):
    forced = replayed(run, "--mode", "tokens", "--fault", "seed_drift")
    free = replayed(run, "--mode", "free", "--fault", "seed_drift")
    for data in (forced, free):
        assert (data["first"]["layer"], data["first"]["op"]) == (None, "sampled")
        assert data["tokens"]["equal"] is False
    assert forced["first"] == free["first"]
    assert (forced["counts"]["inherited"], forced["counts"]["missing"]) == (0, 0)
    # another token is another input to all that follows
    assert free["counts"]["inherited"] > 1000
    flip = free["tokens"]["first_flip"]
    assert (flip["request"], flip["position"]) == (free["first"]["request"], free["first"]["position"])


@pytest.mark.skipif(not find_spec("torch"), reason="torch is not installed")
@pytest.mark.parametrize("args", [[], ["--mode", "free", "--set", "engine.max_num_seqs=1"]])
def test_a_trace_of_paddle_is_replayed_on_torch_to_the_bit(run, args):
    data = replayed(run, "--set", "engine.framework=torch", *args)
    assert data["verdict"] == "identical"
    assert data["counts"]["compared"] == replayed(run, *args)["counts"]["compared"]
    assert {"key": "config.engine.framework", "recorded": "paddle", "replayed": "torch"} in data[
        "manifest_diff"
    ]


@pytest.mark.skipif(bool(find_spec("torch")), reason="torch is installed")
def test_a_framework_that_is_not_there_is_an_error_and_no_verdict(run):
    done = detrec("replay", run, "--set", "engine.framework=torch")
    assert (done.code, done.stdout) == (2, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith("detrec: error: framework torch cannot be imported")
    assert hint == "hint: pip install 'detrec[torch]'"


def test_a_replay_can_be_kept_and_is_a_trace_like_any_other(run, tmp_path):
    kept = tmp_path / "replayed.zarr"
    args = ("replay", run, "-o", kept, "--mode", "free", "--set", "engine.max_num_seqs=2")
    data = replayed(run, *args[2:])
    assert (data["trace"], data["replayed"]) == (str(run), str(kept))
    assert detrec("verify", kept).code == 0
    diff = detrec("diff", run, kept, "--json")
    assert diff.code == 0
    assert {**diff.json(), "seconds": 0} == {**{key: data[key] for key in diff.json()}, "seconds": 0}

    again = detrec(*args)
    assert (again.code, again.stdout) == (2, "")
    assert "exists already" in again.stderr


def test_diff_of_a_trace_with_itself_and_with_a_broken_run(run, tmp_path):
    assert detrec("diff", run, run).code == 0
    other = tmp_path / "broken.zarr"
    broken = soon("record", "serve.yaml", "-o", other, "--fault", "bitflip:step=4,op=1.attn,bit=27")
    assert broken.code == 0
    found = detrec("diff", run, other, "--json")
    assert found.code == 1
    first = found.json()["first"]
    assert f"at step {first['step']}, request {first['request']}" in broken.stderr

    other_way = detrec("diff", other, run, "--json")
    assert other_way.code == 1
    swapped = {**first, "recorded": first["replayed"], "replayed": first["recorded"]}
    assert other_way.json()["first"] == swapped != first
    assert other_way.json()["counts"] == found.json()["counts"]


def test_a_trace_without_the_ops_inside_layers_is_a_tenth_as_large_and_replays(run, tmp_path):
    small = tmp_path / "layer.zarr"
    assert soon("record", "serve.yaml", "-o", small, "--level", "layer").code == 0
    assert TraceReader(small).ops[:3] == ("embedding", "0.output", "1.output")
    data = replayed(small)
    assert data["verdict"] == "identical"
    assert data["counts"]["compared"] < replayed(run)["counts"]["compared"] / 5

    broken = replayed(small, "--fault", "bitflip:step=4,op=1.attn,bit=27")
    seen = SIGHTING.search(broken["stderr"])
    # the op itself was not kept: what is found is the output of its layer
    assert (str(broken["first"]["step"]), broken["first"]["request"]) == seen.groups()[:2]
    assert (broken["first"]["layer"], broken["first"]["op"]) == (1, "output")
    for left, right in ((run, small), (small, run)):
        diff = detrec("diff", left, right, "--json")
        assert (diff.code, diff.json()["counts"]) == (0, data["counts"])


def test_a_deleted_chunk_and_a_flipped_byte_are_found(run, tmp_path):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(run, copy)
    assert detrec("verify", copy).code == 0
    chunk = next(
        path for path in (copy / "fingerprints").rglob("*") if path.is_file() and path.name != "zarr.json"
    )
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
    found = detrec("verify", copy)
    assert found.code == 2
    assert str(chunk.relative_to(copy)) in found.stderr
    assert soon("replay", copy).code == 2
    chunk.unlink()
    assert detrec("verify", copy).code == 2
    assert soon("replay", copy).code == 2

"""FastDeploy recorded and replayed from a serve.yaml, with the stand-in in its place."""

import json
import os
import threading
import time

import pytest

from detrec import checkup
from detrec.config import serve_config
from detrec.engines.base import EventKind, Kind
from detrec.errors import ConfigError, EngineError, TraceError
from detrec.recorder import fastdeploy_run
from detrec.recorder.fastdeploy import recorded_in
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import record
from detrec.recorder.verify import verify
from detrec.replayer.replay import replay
from tests.command import detrec
from tests.engines.fastdeploy.standin import FAKE, installed, plugin_metadata

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


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    with installed(tmp_path_factory.mktemp("meta")):
        yield


def record_together(serve, path, **options):
    """Record with all requests there before the first step, so that every run has the same steps."""
    from fastdeploy.engine.engine import LLMEngine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LLMEngine, "expected", len(serve.requests))
        return record(serve, str(path), **options)


@pytest.fixture(scope="module")
def run(fake, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.zarr"
    said = []
    recording = record_together(config(), path, notify=said.append)
    return TraceReader(path), recording, said


def test_a_run_is_recorded_whole(run):
    trace, recording, said = run
    assert (trace.status, verify(trace.path).problems) == ("complete", ())
    assert recording.outputs == trace.taken_tokens()
    assert all(recording.outputs.values())
    kinds = {event.kind for step in trace.steps() for event in step.events}
    assert EventKind.PREEMPTED in kinds
    assert [note.partition(": ")[2].partition(":")[0] for note in said] == ["qkv-bias"]
    assert trace.manifest["engine"]["holes"][0].startswith("qkv-bias: ")


def test_requests_are_kept_as_they_were_run(run):
    trace, _, _ = run
    long, seeded, text = trace.requests
    # deterministic mode gives 42 to whoever names no seed; text is tokenised by FastDeploy's own processor
    assert [request.sampling.seed for request in (long, seeded, text)] == [42, 7, 42]
    assert text.prompt == tuple(byte % 64 for byte in b"hello there, you")


def test_boundaries_are_aligned_as_the_engine_was_told(run):
    trace, _, _ = run
    cut = [part.stop for step in trace.steps() for part in step.slices
           if part.kind is Kind.PREFILL and not part.samples]  # fmt: skip
    assert cut
    assert all(stop % 16 == 0 for stop in cut)


def test_variables_are_set_for_the_run_and_gone_after_it(run, monkeypatch):
    monkeypatch.delenv("FD_PLUGINS", raising=False)
    assert not {"FD_PLUGINS", "DETREC_RECORD"} & set(os.environ)
    environment = run[0].manifest["environment"]["environment"]
    assert (environment["FD_PLUGINS"], environment["FD_DETERMINISTIC_MODE"]) == ("detrec", "1")


def test_a_replay_gives_the_recorded_tasks_at_the_recorded_steps(run, tmp_path):
    trace, _, _ = run
    again = replay(trace.path, str(tmp_path / "again.zarr"), diagnose=True)
    found = again.comparison
    assert (found.verdict, found.schedule_diff.total, found.tokens.equal) == ("identical", 0, True)
    assert recorded_in(TraceReader(again.path)) == recorded_in(trace)


def test_a_replay_that_computes_otherwise_says_where(run, monkeypatch):
    from tests.engines.fastdeploy import tiny

    forward = tiny.Mlp.forward
    monkeypatch.setattr(tiny.Mlp, "forward", lambda self, x: forward(self, x * 1.0000002))
    again = replay(run[0].path, diagnose=True).comparison
    assert (again.verdict, again.first.layer, again.first.op) == ("diverged", 0, "gate_up")


def test_tokens_are_forced_so_that_one_flip_does_not_change_all_that_follows(run, monkeypatch):
    from tests.engines.fastdeploy import tiny

    forward = tiny.Sampler.forward

    def off(self, logits, metadata, idxs):
        return forward(self, logits * -1, metadata, idxs)

    monkeypatch.setattr(tiny.Sampler, "forward", off)
    found = replay(run[0].path).comparison
    assert (found.first.op, found.schedule_diff.total) == ("sampled", 0)
    assert not found.tokens.equal
    again = {found.ops[op] for op in found.divergent.op}
    assert again == {"sampled"}


def test_nothing_forced_the_engine_answers_the_same_requests(fake, tmp_path):
    alone = record(config(REQUESTS[1:2]), str(tmp_path / "run.zarr"))
    found = replay(alone.path, mode="free").comparison
    assert (found.verdict, found.tokens.equal) == ("identical", True)


def test_on_the_built_in_engine_the_same_requests_are_run(run):
    """Bits cannot be equal; rows, forced tokens and ops stand side by side."""
    overrides = ["engine.name=builtin", "model=builtin:qwen2-tiny", "engine.max_model_len=64"]
    found = replay(run[0].path, mode="tokens", overrides=overrides).comparison
    assert found.verdict == "diverged"
    assert (found.first.op, found.rows.missing) == ("embedding", 0)


def test_tokens_alone_cannot_be_forced(run):
    with pytest.raises(ConfigError, match="--mode tokens: FastDeploy's scheduler cannot be left to decide"):
        replay(run[0].path, mode="tokens")


def test_a_trace_without_tasks_cannot_be_replayed(run, tmp_path):
    from detrec.recorder.merge import merge

    trace, _, _ = run
    merge([trace.path], tmp_path / "bare.zarr", trace.manifest)
    with pytest.raises(TraceError, match="FastDeploy's tasks are not in it"):
        replay(str(tmp_path / "bare.zarr"))


def test_a_plugin_that_does_not_load_is_noticed(tmp_path, monkeypatch):
    """FastDeploy goes on with its own runner, without a word: there would be nothing in the trace."""
    with installed(tmp_path / "meta"):
        points = tmp_path / "meta" / "detrec_plugins-0.dist-info" / "entry_points.txt"
        points.write_text(points.read_text().replace("model_runner", "no_such_function"))
        with pytest.raises(EngineError, match="did not load detrec's plugin") as raised:
            record(config(), str(tmp_path / "run.zarr"))
    assert "model_runner()" in raised.value.hint
    assert not (tmp_path / "run.zarr").exists()


def test_what_the_worker_refuses_is_the_error(fake, tmp_path):
    with pytest.raises(EngineError, match="as it is configured: speculative decoding is not supported"):
        record(config(speculative_config={"method": "mtp"}), str(tmp_path / "run.zarr"))


def test_where_graphs_hide_the_layers_it_is_said(fake, tmp_path):
    said = []
    graphs = config(REQUESTS[1:2], graph_optimization_config={"use_cudagraph": True})
    trace = TraceReader(record(graphs, str(tmp_path / "run.zarr"), notify=said.append).path)
    assert (trace.status, trace.ops) == ("complete", ("logits", "sampled"))
    assert said[-1] == "its graphs hide the layers: only logits and tokens are recorded"


def test_a_worker_that_does_not_start(fake, tmp_path, monkeypatch):
    """FastDeploy's LLM is there all the same, without a word."""
    from fastdeploy.worker.gpu_model_runner import GPUModelRunner

    def failing(self):
        raise SystemExit

    monkeypatch.setattr(GPUModelRunner, "profile_run", failing)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    with pytest.raises(EngineError, match="FastDeploy's workers died"):
        record(config(), str(tmp_path / "run.zarr"))


def test_a_prompt_that_leaves_no_room(fake, tmp_path):
    request = {"id": "a", "prompt_token_ids": [5] * 64}
    with pytest.raises(ConfigError, match="request a: its prompt of 64 tokens leaves no room"):
        record(config([request]), str(tmp_path / "run.zarr"))


def test_a_worker_that_dies_leaves_what_it_recorded(fake, tmp_path, monkeypatch):
    from fastdeploy.worker.gpu_model_runner import GPUModelRunner

    settle, steps = GPUModelRunner._postprocess, []

    def dying(self, *args):
        steps.append(len(steps))
        if len(steps) == 3:
            # longer than a recorder waits until it commits
            time.sleep(0.25)
        if len(steps) == 4:
            raise SystemExit
        return settle(self, *args)

    monkeypatch.setattr(GPUModelRunner, "_postprocess", dying)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    with pytest.raises(EngineError, match="workers died"):
        record(config(), str(tmp_path / "run.zarr"))
    trace = TraceReader(tmp_path / "run.zarr")
    assert (trace.status, trace.n_steps) == ("failed", 3)
    assert trace.reason.startswith("EngineError: FastDeploy's workers died")


def test_an_interruption_leaves_a_failed_trace(fake, tmp_path, monkeypatch):
    wait = fastdeploy_run._wait

    def interrupted(order, offline, requests, progress):
        wait(order, offline, requests, progress)
        raise KeyboardInterrupt

    monkeypatch.setattr(fastdeploy_run, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record(config(), str(tmp_path / "run.zarr"))
    trace = TraceReader(tmp_path / "run.zarr")
    assert (trace.status, trace.reason) == ("failed", "KeyboardInterrupt")
    assert trace.n_steps > 3


@pytest.mark.parametrize(
    ("engine", "said", "hint"),
    [
        ({"max_num_seq": 3}, "'max_num_seq' is no argument", "did you mean max_num_seqs?"),
        ({"model": "x"}, "'model' is no argument", "model stands beside engine"),
        ({"enable_overlap_schedule": True}, "enable_overlap_schedule: true launches rows", "set it to false"),
    ],
)
def test_arguments_are_held_against_the_installed_engines(fake, tmp_path, engine, said, hint):
    with pytest.raises(ConfigError, match=said) as raised:
        record(config(**engine), str(tmp_path / "run.zarr"))
    assert hint in raised.value.hint


def test_a_sampling_parameter_that_it_does_not_have(fake, tmp_path):
    request = {"id": "a", "prompt": "x", "sampling": {"ignore_eos": True}}
    with pytest.raises(ConfigError, match=r"request a: sampling\.ignore_eos: this FastDeploy has no such"):
        record(config([request]), str(tmp_path / "run.zarr"))


def serve_yaml(folder):
    path = folder / "serve.yaml"
    engine = {"name": "fastdeploy", **ENGINE, "tensor_parallel_size": 1}
    path.write_text(json.dumps({"model": "tiny", "engine": engine, "requests": REQUESTS}))
    return path


def test_without_fastdeploy_the_command_says_how_to_install_it(tmp_path):
    done = detrec("record", serve_yaml(tmp_path), "-o", tmp_path / "run.zarr")
    assert (done.code, done.stdout) == (2, "")
    assert "engine.name: fastdeploy: cannot be imported: No module named 'fastdeploy'" in done.stderr
    assert "hint: install FastDeploy for your GPU as its installation guide says: https://" in done.stderr


def test_the_command_records(tmp_path):
    places = [str(FAKE), str(plugin_metadata(tmp_path / "meta")), os.environ.get("PYTHONPATH", "")]
    run = tmp_path / "run.zarr"
    done = detrec("record", serve_yaml(tmp_path), "-o", run, PYTHONPATH=os.pathsep.join(places))
    assert done.code == 0, done.stderr
    assert done.stdout.startswith(f"recorded {run}: ")
    assert "FastDeploy is not deterministic here: qkv-bias: " in done.stderr


def test_the_doctor_tells_the_holes_of_a_trace_and_of_a_serve_yaml(run, tmp_path):
    examined = checkup.examine(run[0].path)
    assert "  not deterministic: qkv-bias: " in checkup.to_text(examined)
    assert examined["replay"]["reasons"] == ("it was recorded on fastdeploy, which is not installed here",)
    foreseen = checkup.examine(str(serve_yaml(tmp_path)))["holes"]
    # the arguments leave prefix caching at FastDeploy's default; there is no config.json to tell of biases
    assert [hole.partition(":")[0] for hole in foreseen] == ["prefix-caching"]

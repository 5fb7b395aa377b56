"""FastDeploy recorded and replayed from a serve.yaml, with the stand-in in its place."""

import os
import threading
from dataclasses import replace

import numpy as np
import pytest

from detrec import checkup
from detrec.config import serve_config
from detrec.engines.base import EventKind, Kind, OpKind
from detrec.errors import ConfigError, TraceError
from detrec.recorder.fastdeploy import recorded_in
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import record
from detrec.recorder.verify import verify
from detrec.replayer.replay import replay
from tests.engines.fastdeploy.standin import installed
from tests.recorder.fastdeploy_runs import ENGINE, REQUESTS, config, record_together, serve_yaml


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    with installed(tmp_path_factory.mktemp("meta")):
        yield


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


@pytest.fixture(scope="module")
def two_ranks(fake, tmp_path_factory):
    path = tmp_path_factory.mktemp("ranks") / "run.zarr"
    record_together(config(tensor_parallel_size=2), path)
    return TraceReader(path)


def test_every_rank_is_recorded(two_ranks):
    assert (two_ranks.ranks, two_ranks.status, two_ranks.ops[-1]) == (2, "complete", "broadcast")
    kinds = dict(zip(two_ranks.ops, two_ranks.kinds, strict=True))
    assert (kinds["0.qkv"], kinds["0.o_proj"]) == (OpKind.PARTIAL, OpKind.REPLICATED)
    whole = [index for index, op in enumerate(two_ranks.ops) if "partial" not in op]
    ours, theirs = (two_ranks.fingerprints(0, two_ranks.n_rows, rank)[:, whole] for rank in (0, 1))
    # ranks of the stand-in compute all of it
    assert (ours == theirs).all()
    assert replay(two_ranks.path).comparison.verdict == "identical"


def test_what_a_rank_drew_for_itself_is_seen_though_the_broadcast_hides_it(two_ranks, monkeypatch):
    from fastdeploy.worker.gpu_model_runner import GPUModelRunner

    from tests.engines.fastdeploy import tiny

    # ranks are threads, which run side by side
    postprocess, drawing = GPUModelRunner._postprocess, threading.local()
    forward = tiny.Sampler.forward

    def told(self, *args):
        drawing.rank = self.rank
        return postprocess(self, *args)

    def off(self, logits, metadata, idxs):
        return forward(self, logits * (-1 if getattr(drawing, "rank", 0) == 1 else 1), metadata, idxs)

    monkeypatch.setattr(GPUModelRunner, "_postprocess", told)
    monkeypatch.setattr(tiny.Sampler, "forward", off)
    found = replay(two_ranks.path).comparison
    assert (found.verdict, found.first.op, found.first.rank) == ("diverged", "sampled", 1)
    assert found.tokens.equal
    assert {found.ops[op] for op in found.divergent.op} == {"sampled"}


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


def test_sketches_are_kept_beside_fingerprints_on_the_cpu(fake, tmp_path):
    serve = serve_config(
        {
            "model": "tiny",
            "engine": {"name": "fastdeploy", **ENGINE},
            "requests": REQUESTS[1:2],
            "record": {"sketch": True},
        }
    )
    trace = TraceReader(record(serve, str(tmp_path / "run.zarr")).path)
    at = trace.ops.index("0.attn")
    assert trace.has_sketches
    assert np.isfinite(trace.sketches(0, trace.n_rows)[:, at]).all()


def test_the_doctor_tells_the_holes_of_a_trace_and_of_a_serve_yaml(run, tmp_path):
    examined = checkup.examine(run[0].path)
    assert "  not deterministic: qkv-bias: " in checkup.to_text(examined)
    assert examined["replay"]["reasons"] == ("it was recorded on fastdeploy, which is not installed here",)
    foreseen = checkup.examine(str(serve_yaml(tmp_path)))["holes"]
    # the arguments leave prefix caching at FastDeploy's default; there is no config.json to tell of biases
    assert [hole.partition(":")[0] for hole in foreseen] == ["prefix-caching"]


def test_the_built_in_engine_is_held_against_sketches(fake, tmp_path):
    """The stand-in has other weights, so that the first op is the first that is too far away."""
    serve = config(REQUESTS[1:2])
    serve = replace(serve, record=replace(serve.record, sketch=True))
    path = record(serve, str(tmp_path / "run.zarr")).path
    overrides = ["engine.name=builtin", "model=builtin:qwen2-tiny", "engine.max_model_len=64"]
    found = replay(path, mode="tokens", overrides=overrides).tolerance
    assert found is not None
    assert found.first.op == "embedding"

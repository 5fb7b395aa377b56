"""FastDeploy that cannot be had, does not start, refuses, or dies: what the user is told, what is kept."""

import os
import threading
from functools import partialmethod
from importlib import metadata

import pytest

from detrec.errors import ConfigError, EngineError
from detrec.recorder import fastdeploy_run
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import record
from detrec.recorder.writer import TraceWriter
from tests.command import detrec
from tests.engines.fastdeploy.standin import FAKE, installed, plugin_metadata
from tests.recorder.fastdeploy_runs import REQUESTS, config, serve_yaml


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    with installed(tmp_path_factory.mktemp("meta")):
        yield


def test_a_plugin_that_does_not_load_is_noticed(tmp_path, monkeypatch):
    """FastDeploy goes on with its own runner, without a word: there would be nothing in the trace."""
    meta = tmp_path / "meta"

    def of_the_stand_in(group):
        """detrec may be installed here too, and then its plugin loads."""
        found = metadata.distributions(path=[str(meta)])
        return [point for each in found for point in each.entry_points if point.group == group]

    monkeypatch.setattr(metadata, "entry_points", of_the_stand_in)
    with installed(meta):
        points = meta / "detrec_plugins-0.dist-info" / "entry_points.txt"
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
        if len(steps) == 4:
            raise SystemExit
        return settle(self, *args)

    monkeypatch.setattr(GPUModelRunner, "_postprocess", dying)
    monkeypatch.setattr(TraceWriter, "__init__", partialmethod(TraceWriter.__init__, commit_steps=1))
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

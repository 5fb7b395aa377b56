"""Opt in with FASTDEPLOY_SRC=path of a FastDeploy source tree: what is recorded is what FastDeploy decided.

Its requirements must be installed as far as its scheduler and model runner import them; `real` says what of
it runs.
"""

import logging
import os
import warnings
from pathlib import Path

import pytest

from detrec.config import SamplingParams, serve_config
from detrec.engines.base import EventKind, Kind, Request
from detrec.engines.fastdeploy.names import names_of
from detrec.engines.fastdeploy.offline import arguments_of
from detrec.engines.fastdeploy.plugin import recording
from detrec.engines.hooks import Hooks, modules_of
from detrec.recorder.fastdeploy import (
    FileJournal,
    Order,
    attach_tasks,
    header_of,
    recorded_in,
    tasks_in,
    trace_of,
    write_order,
    write_requests,
)
from detrec.recorder.merge import merge
from detrec.recorder.reader import TraceReader
from detrec.replayer.compare import compare
from tests.engines.fastdeploy.source import source_tree
from tests.engines.fastdeploy.standin import plugin_metadata

SOURCE = os.environ.get("FASTDEPLOY_SRC", "")
pytestmark = [
    pytest.mark.skipif(not SOURCE, reason="FASTDEPLOY_SRC names no source tree of FastDeploy"),
    pytest.mark.filterwarnings("ignore"),
]

# b goes on decoding while c's chunks compete for the budget; 8 blocks are too few for all three
PROMPTS = {"a": range(2, 32), "b": range(4, 54), "c": range(7, 24)}
TOKENS = {"a": 12, "b": 30, "c": 25}
AMPLE = {"max_num_seqs": 3, "num_gpu_blocks_override": 32, "max_num_batched_tokens": 40, "block_size": 16}
SCARCE = {**AMPLE, "num_gpu_blocks_override": 8}
# one decode leaves 15 of 16: less than a split, so that a prompt is put off as long as anybody decodes
TIGHT = {**AMPLE, "max_num_batched_tokens": 16}


@pytest.fixture(scope="module", autouse=True)
def source(tmp_path_factory):
    """FastDeploy's modules, of the tree that was named; yields what was made empty."""
    logging.disable(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("FD_LOG_DIR", str(tmp_path_factory.mktemp("log")))
        with source_tree(Path(SOURCE)) as made:
            yield made
    logging.disable(logging.NOTSET)


def requests():
    return [
        Request(name, tuple(prompt), SamplingParams(seed=42 + at, max_tokens=TOKENS[name]))
        for at, (name, prompt) in enumerate(PROMPTS.items())
    ]


class Run:
    """One recorded run of FastDeploy's scheduler and runner: the trace, and what was really decided."""

    def __init__(self, folder, arguments, replay=""):
        from tests.engines.fastdeploy.real import driver

        folder.mkdir()
        self.arguments = arguments
        self.order = folder / "order.json"
        write_order(self.order, Order("op", replay=replay))
        self.seeds = []
        self.driver = driver(self._runner, **arguments)
        try:
            if replay:
                self.driver.idle()
            else:
                write_requests(self.order, requests())
                for request in requests():
                    params = {"max_tokens": request.sampling.max_tokens, "seed": request.sampling.seed}
                    self.driver.add(request.id, request.prompt, **params)
                self.driver.run()
                # a worker with nothing to do goes on asking for steps
                self.driver.idle()
        finally:
            self.driver.close()
        header = header_of(self.order, 0)
        assert (header.status, header.reason) == ("complete", "")
        self.trace = TraceReader(trace_of(self.order, 0))

    def _runner(self, base):
        seeds = self.seeds

        class Spied(base):
            """Reads the seeds right before they are used, from the tensor itself."""

            def _postprocess(self, *args, **kwargs):
                seeds.append(self.share_inputs["infer_seed"].numpy()[:, 0].tolist())
                return super()._postprocess(*args, **kwargs)

        return recording(Spied, lambda rank: FileJournal(self.order, rank))

    @property
    def decided(self):
        """Every turn of the scheduler that decided anything, as (kind, request, ...)."""
        return [turn for turn in self.driver.scheduled if turn]


@pytest.fixture(scope="module", params=["0", "1"], ids=["mode 0", "mode 1"])
def mode(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FD_DETERMINISTIC_MODE", request.param)
        yield request.param


@pytest.fixture(scope="module", params=[AMPLE, SCARCE, TIGHT], ids=["ample", "scarce", "tight"])
def run(request, mode, tmp_path_factory):
    return Run(tmp_path_factory.mktemp("real") / "run", request.param)


def chunks(turns):
    return [task[1:2] + task[3:] for turn in turns for task in turn if task[0] == "prefill"]


def test_every_chunk_is_the_schedulers(run):
    slices = [part for step in run.trace.steps() for part in step.slices if part.kind is Kind.PREFILL]
    assert [(part.request, part.start, part.stop) for part in slices] == chunks(run.decided)


def test_chunks_are_in_the_steps_that_the_scheduler_meant(run):
    """A turn that decided prefills ran them together, in the order of its slots."""
    turns = [chunks([turn]) for turn in run.decided]
    steps = [
        [(part.request, part.start, part.stop) for part in step.slices if part.kind is Kind.PREFILL]
        for step in run.trace.steps()
    ]
    assert [sorted(step) for step in steps if step] == [sorted(turn) for turn in turns if turn]


def test_preemptions_are_the_schedulers(run):
    events = [event for step in run.trace.steps() for event in step.events]
    preempted = [event.request for event in events if event.kind is EventKind.PREEMPTED]
    assert preempted == [task[1] for turn in run.decided for task in turn if task[0] == "preempted"]
    assert bool(preempted) == (run.arguments is SCARCE)


def test_chunk_boundaries_are_aligned_in_deterministic_mode_only(run, mode):
    slices = [part for step in run.trace.steps() for part in step.slices if part.kind is Kind.PREFILL]
    cut = [part.stop for part in slices if not part.samples]
    assert cut
    assert all(stop % 16 == 0 for stop in cut) == (mode == "1")


def test_a_prompt_that_is_put_off_is_recorded_late(run, mode):
    """With 15 of 16 tokens left beside a decode, a prompt begins in mode 0 and is put off in mode 1."""
    if run.arguments is not TIGHT:
        pytest.skip("the budget has room for a split")
    together = [{part.request for part in step.slices} >= {"a", "b"} for step in run.trace.steps()]
    assert any(together) == (mode == "0")


def test_seeds_are_those_that_the_sampler_used(run):
    """FastDeploy moves all slots' seeds at every step, so that no rule but reading them gives them."""
    samples = run.trace.samples()
    slots = {}
    for batch, step in zip(recorded_in(run.trace).batches, run.trace.steps(), strict=True):
        for task in batch.tasks:
            slots[task.request] = task.slot
        drawn = samples.seed[samples.step == step.index].tolist()
        names = [part.request for part in step.slices if part.samples]
        assert drawn == [run.seeds[step.index][slots[name]] for name in names]


def test_tokens_are_the_engines(run):
    """Every request goes on with the tokens that FastDeploy's scheduler heard."""
    taken = run.trace.taken_tokens()
    heard = {name: request.output_token_ids for name, request in run.driver.added.items()}
    assert taken == heard
    assert all(tokens for tokens in taken.values())


def test_every_op_of_every_row_is_recorded(run):
    prints = run.trace.fingerprints(0, run.trace.n_rows)
    on_samples = [name in ("logits", "sampled") for name in run.trace.ops]
    assert (prints[:, [not on for on in on_samples]] != 0).all()
    assert (prints[:, on_samples] != 0).all(axis=1).sum() == run.trace.n_samples


def test_the_recorded_tasks_run_again_without_the_scheduler(run, tmp_path):
    again = Run(tmp_path / "again", run.arguments, replay=run.trace.path)
    assert not again.driver.scheduled
    found = compare(run.trace, again.trace)
    assert (found.verdict, found.schedule_diff.total, found.tokens.equal) == ("identical", 0, True)


def test_a_model_that_computes_otherwise_is_found_where_it_does(run, tmp_path, monkeypatch):
    """Negative control: were nothing compared, the test above would pass too."""
    from tests.engines.fastdeploy import tiny

    forward = tiny.Attention.forward

    def other(self, qkv, meta):
        out = forward(self, qkv, meta)
        return out * 1.0000002 if max(position for _, position in meta.places) > 35 else out

    monkeypatch.setattr(tiny.Attention, "forward", other)
    again = Run(tmp_path / "again", run.arguments, replay=run.trace.path)
    found = compare(run.trace, again.trace)
    assert (found.verdict, found.first.layer, found.first.op) == ("diverged", 0, "attn")


def test_merged_traces_keep_the_tasks(run, tmp_path):
    def keep(writer, first):
        attach_tasks(writer, tasks_in(first))

    merged = merge([run.trace.path], tmp_path / "merged.zarr", {"config": {}}, finishing=keep)
    assert recorded_in(merged) == recorded_in(run.trace)
    assert compare(run.trace, merged).verdict == "identical"


def test_its_plugin_loader_finds_detrec(tmp_path, monkeypatch):
    """By FastDeploy's own loader and FD_PLUGINS; without the order the plugin does not load."""
    from fastdeploy.plugins.model_runner import load_model_runner_plugins
    from fastdeploy.worker.gpu_model_runner import GPUModelRunner

    monkeypatch.syspath_prepend(str(plugin_metadata(tmp_path)))
    monkeypatch.setenv("FD_PLUGINS", "detrec")
    with pytest.raises(KeyError, match="DETREC_RECORD"):
        load_model_runner_plugins()
    monkeypatch.setenv("DETREC_RECORD", str(tmp_path / "order.json"))
    loaded = load_model_runner_plugins()
    assert issubclass(loaded, GPUModelRunner)
    assert loaded is not GPUModelRunner


@pytest.mark.parametrize("name", ["qwen2", "qwen3"])
def test_its_decoders_have_every_op(name, monkeypatch):
    """By the names of the real models' modules; their forward needs a GPU."""
    from tests.engines.fastdeploy.real_models import causal_lm

    model = causal_lm(name, monkeypatch)
    inside = [
        "attn_norm",
        "qkv",
        "attn",
        "o_proj",
        "attn_residual",
        "mlp_norm",
        "gate_up",
        "act",
        "down_proj",
        "output",
    ]
    layers = [f"{layer}.{op}" for layer in range(2) for op in inside]
    names = names_of(modules_of(model), ranks=1)
    assert names.ops == ("embedding", *layers, "final_norm", "logits", "sampled")
    assert Hooks(model, names.taps, print)


def test_its_requests_and_sampling_parameters_take_what_detrec_gives():
    """The offline side builds them; the engine behind it needs a GPU and is not started here."""
    from dataclasses import fields

    from fastdeploy.engine.args_utils import EngineArgs
    from fastdeploy.engine.sampling_params import SamplingParams as Foreign

    ours = {field.name for field in fields(SamplingParams)}
    assert ours - {field.name for field in fields(Foreign)} == {"ignore_eos"}
    known = [field.name for field in fields(EngineArgs)]
    config = serve_config(
        {"model": "m", "engine": {"name": "fastdeploy", "block_size": 64}, "requests": [{"prompt": "x"}]}
    )
    graphs = {"use_cudagraph": False}
    assert arguments_of(config, known) == {
        "block_size": 64, "enable_overlap_schedule": False, "graph_optimization_config": graphs,
    }  # fmt: skip


def test_only_ops_and_absent_packages_were_replaced(source):
    assert {name.partition(".")[0] for name in source} <= {
        "aistudio_sdk",
        "paddleformers",
        "huggingface_hub",
        "cv2",
    }

"""What runs where transformers is on a GPU, which is host memory and Triton's interpreter here."""

import numpy as np
import pytest

from detrec.config import serve_config
from detrec.engines.builtin import seeded
from detrec.engines.contract.told import heard
from detrec.errors import ConfigError, EngineError
from detrec.kernels import cuda
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import record
from detrec.replayer.compare import compare
from detrec.replayer.replay import replay
from detrec.replayer.tolerance import compare_sketches
from tests.engines.small import prompt, request
from tests.engines.transformers.tiny import REASON, started

pytest.importorskip("torch", reason=REASON)
pytest.importorskip("transformers", reason=REASON)
pytest.importorskip("triton")

from tests.engines.transformers.host_gpu import host_gpu

REQUESTS = [request("a", prompt(1, 5), max_tokens=3), request("b", prompt(2, 3), max_tokens=2, arrival=1)]


@pytest.fixture(scope="module", autouse=True)
def nano():
    """Models of one layer, so that the interpreter runs them in a second or two."""
    with pytest.MonkeyPatch.context() as patch:
        for family in ("qwen2", "qwen3"):
            model = seeded._model(family, 300, 32, 48, 1, (2, 1), tied=family == "qwen2")
            patch.setitem(seeded._MODELS, f"nano-{family}", model)
        yield


@pytest.fixture
def simulated():
    with host_gpu():
        yield


def recorded(path, requests, *, recording, **engine):
    settings = {"name": "transformers", "max_batch_tokens": 4, **engine}
    config = {"model": "builtin:nano-qwen2", "engine": settings, "requests": requests, "record": recording}
    record(serve_config(config), str(path))
    return TraceReader(str(path))


def test_what_is_recorded_on_a_gpu_is_what_is_recorded_on_the_host(tmp_path, simulated):
    """Fingerprints and sketches by the device's kernels, on the same tensors; and one wait a step."""
    short = [request("a", prompt(1, 2), max_tokens=2)]
    here = recorded(tmp_path / "cpu.zarr", short, recording={"sketch": True})
    before = cuda.waits()
    there = recorded(tmp_path / "gpu.zarr", short, recording={"sketch": True}, device="gpu")
    assert cuda.waits() - before == there.n_steps
    found = compare(here, there)
    assert (found.verdict, found.tokens.equal) == ("identical", True)
    tolerance = compare_sketches(here, there)
    assert (tolerance.verdict, tolerance.compared) == ("close", found.counts.compared)
    assert there.manifest["engine"]["device"] == {"kind": "gpu", "name": "host"}


@pytest.mark.parametrize(
    "settings",
    [
        {"dtype": "bfloat16", "model": "nano-qwen3", "max_batch_tokens": 4},
        {"batching": "static", "max_requests_per_batch": 2},
    ],
    ids=["bfloat16, norms of heads", "padded batches"],
)
def test_what_is_told_on_a_gpu_is_what_is_told_on_the_host(simulated, settings):
    here = heard(started(REQUESTS, **{"model": "nano-qwen2", **settings}))
    there = heard(started(REQUESTS, device="gpu", **{"model": "nano-qwen2", **settings}))
    assert there.steps == here.steps
    assert there.tokens == here.tokens
    for ours, theirs in zip(there.ops, here.ops, strict=True):
        assert [(name, kernel) for name, _, kernel in ours] == [(name, kernel) for name, _, kernel in theirs]
        for (name, one, _), (_, other, _) in zip(ours, theirs, strict=True):
            assert one.tobytes() == other.tobytes(), name
    for ours, theirs in zip(there.samples, here.samples, strict=True):
        assert (ours.request, ours.position, ours.token) == (theirs.request, theirs.position, theirs.token)
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)
        assert ours.margin == pytest.approx(theirs.margin, abs=1e-4)


def bits(told):
    """By op, request and position: the row's bytes."""
    return {place: [row.tobytes() for _, row in rows] for place, rows in told.rows().items()}


def invariant(dtype, model, rows):
    settings = {"device": "gpu", "dtype": dtype, "invariant_kernels": True, "max_batch_tokens": rows}
    return bits(heard(started(REQUESTS, model=model, **settings)))


@pytest.mark.parametrize(("dtype", "model"), [("bfloat16", "nano-qwen3"), ("float16", "nano-qwen2")])
def test_with_invariant_kernels_a_row_does_not_see_its_batch(simulated, dtype, model):
    assert invariant(dtype, model, 2) == invariant(dtype, model, 8)


def test_attention_at_a_wrong_place_is_seen(simulated, monkeypatch):
    """Negative control: were a row's place that in its step, another batch composition would show."""
    from detrec.engines.transformers import invariant as placing

    class Wrong(placing.Spans):
        def __init__(self, step):
            super().__init__(step)
            self.positions[:] = np.minimum(range(step.rows), self.lengths[self.row_seq] - 1)

    monkeypatch.setattr(placing, "Spans", Wrong)
    few, many = invariant("bfloat16", "nano-qwen3", 2), invariant("bfloat16", "nano-qwen3", 8)
    # of the prompts: other tokens may have been drawn
    apart = {place[0] for place in few if place[2] < 3 and few[place] != many[place]}
    assert "0.attn" in apart
    assert not apart & {"embedding", "0.attn_norm", "0.qkv", "0.q_norm", "0.rope_q", "0.rope_k"}


def test_a_replay_in_another_batch_composition_is_identical(simulated, tmp_path):
    settings = {"device": "gpu", "dtype": "bfloat16", "invariant_kernels": True}
    recorded(tmp_path / "run.zarr", REQUESTS, recording={"level": "layer"}, **settings)
    again = replay(str(tmp_path / "run.zarr"), mode="tokens", overrides=["engine.max_batch_tokens=3"])
    assert again.comparison.schedule_diff.total
    assert again.comparison.verdict == "identical"


def test_a_model_in_another_stream_is_refused(simulated, monkeypatch):
    """What is fingerprinted in one stream before it is computed in another would be anything."""
    engine = started(REQUESTS, model="nano-qwen2", device="gpu")
    monkeypatch.setattr("detrec.kernels.arrays.current_stream", lambda framework, device: 7)
    with pytest.raises(EngineError, match="the model runs in stream 0x7, expected 0x0"):
        heard(engine)


def test_heads_that_attention_does_not_take(monkeypatch):
    monkeypatch.setitem(seeded._MODELS, "narrow", seeded._model("qwen3", 300, 32, 48, 1, (2, 1), head_dim=12))
    with pytest.raises(ConfigError, match="invariant_kernels: 12 elements a head, expected a multiple of 8"):
        started(REQUESTS, model="narrow", invariant_kernels=True)


def test_a_machine_without_a_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(EngineError, match="torch finds no GPU here"):
        started(REQUESTS, model="nano-qwen2", device="gpu")


def test_a_gpu_that_is_full(monkeypatch):
    import torch

    engine = started(REQUESTS, model="nano-qwen2")
    next(iter(engine.run(engine.own_scheduler())))

    def forward(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB.\nmore")

    engine = started(REQUESTS, model="nano-qwen2")
    monkeypatch.setattr(engine._model.model.layers[0].mlp, "forward", forward)
    with pytest.raises(EngineError, match=r"a forward pass: .* enough memory: .* 3.00 GiB.$") as caught:
        heard(engine)
    assert "lower engine.num_blocks" in caught.value.hint

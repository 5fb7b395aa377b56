"""What is held of a step on a GPU is told as it was computed, or is refused."""

import pytest

from detrec.engines.contract.told import heard
from detrec.errors import EngineError
from tests.engines.small import prompt, request
from tests.engines.transformers.tiny import REASON, left_behind, started

pytest.importorskip("torch", reason=REASON)
pytest.importorskip("transformers", reason=REASON)
pytest.importorskip("triton")

from tests.engines.transformers.host_gpu import host_gpu

REQUESTS = [request("a", prompt(1, 5), max_tokens=3), request("b", prompt(2, 3), max_tokens=2, arrival=1)]


@pytest.fixture(autouse=True)
def simulated(monkeypatch):
    # what a token is drawn with is not looked at here, and takes the interpreter seconds
    monkeypatch.setattr(
        "detrec.engines.transformers.draws.DeviceDraws.take", lambda self, logits, samples: None
    )
    monkeypatch.setattr(
        "detrec.engines.transformers.draws.DeviceDraws.scores",
        lambda self, tokens: [(0.0, 0.0)] * len(tokens),
    )
    with host_gpu():
        yield


def told(engine):
    return [[(name, rows.tobytes(), kernel) for name, rows, kernel in ops] for ops in heard(engine).ops]


@pytest.mark.parametrize("model", ["qwen2-tiny", "qwen3-tiny"])
def test_what_is_held_for_long_and_for_a_layer_is_what_the_host_tells(model, monkeypatch):
    whole = told(started(REQUESTS, model=model, device="gpu"))
    monkeypatch.setattr("detrec.engines.transformers.gathering.HELD", 1)
    by_layer = told(started(REQUESTS, model=model, device="gpu"))
    on_host = [[op for op in ops if op[0] != "logits"] for ops in told(started(REQUESTS, model=model))]
    for ours in (whole, by_layer):
        assert [[op for op in ops if op[0] != "logits"] for ops in ours] == on_host


def test_an_output_that_is_changed_before_it_is_told_is_refused():
    engine = started(REQUESTS, device="gpu")
    layer = engine._model.model.layers[2]

    def changing(hidden_states, *args, **kwargs):
        output = type(layer).forward(layer, hidden_states, *args, **kwargs)
        hidden_states += 1
        return output

    layer.forward = changing
    with pytest.raises(EngineError, match=r"1\.output was changed after it was computed"):
        heard(engine)


@pytest.mark.parametrize("times", [0, 2])
def test_a_module_that_does_not_run_once_is_refused(times):
    engine = started(REQUESTS, device="gpu")
    mlp = engine._model.model.layers[1].mlp
    mlp.forward = lambda x: [x, *(type(mlp).forward(mlp, x) for _ in range(times))][-1]
    with pytest.raises(EngineError, match=rf"step 0: model.layers.1.mlp.down_proj ran {times} times"):
        heard(engine)


def test_a_layout_that_changes_from_step_to_step_is_followed(monkeypatch):
    """Contiguous in one step, rows with gaps in the next: of as many rows, from the same modules."""
    import torch

    plain = told(started(REQUESTS, device="gpu"))
    engine = started(REQUESTS, device="gpu")
    norm, steps = engine._model.model.layers[1].input_layernorm, []

    def apart(x):
        out = type(norm).forward(norm, x)
        steps.append(len(steps))
        if steps[-1] % 2:
            wide = torch.empty(*out.shape[:-1], 2 * out.shape[-1], dtype=out.dtype)
            wide[..., : out.shape[-1]] = out
            return wide[..., : out.shape[-1]]
        return out

    norm.forward = apart
    names = [[(name, rows) for name, rows, _ in ops] for ops in told(engine)]
    assert names == [[(name, rows) for name, rows, _ in ops] for ops in plain]
    assert len(steps) > 2


def test_nothing_is_left_behind():
    engine = started(REQUESTS, device="gpu")
    told(engine)
    assert left_behind(engine) == []

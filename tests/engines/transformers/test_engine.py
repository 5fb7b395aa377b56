"""Continuous batching as an Engine: what its scheduler does is told, and forced, or refused."""

from dataclasses import replace

import numpy as np
import pytest

from detrec.engines.base import EventKind
from detrec.engines.contract.told import heard, taken_by, tiled
from detrec.engines.transformers.forced import check_built
from detrec.errors import ConfigError, EngineError, ReplayError
from tests.engines import small
from tests.engines.small import prompt, request
from tests.engines.transformers.tiny import left_behind, started

TWO = [request("a", prompt(1, 20)), request("b", prompt(2, 7))]


def again(told, requests, **settings):
    """`told` run again by its own schedule and tokens."""
    forced = {r["id"]: taken_by(told, r["id"]) for r in requests}
    return heard(started(requests, forced=forced, **settings), plan=told.steps)


def test_a_preemption_is_told_and_followed():
    requests = [request(name, prompt(seed, 12), max_tokens=14) for seed, name in enumerate("abc")]
    settings = {"page_size": 4, "num_blocks": 14, "safety_margin": 0.0}
    told = heard(started(requests, **settings))
    events = [event.kind for step in told.steps for event in step.events]
    # 5.17 leaves what was computed to be found again
    assert events in ([EventKind.PREEMPTED], [EventKind.PREEMPTED, EventKind.HIT])
    assert set(tiled(told.steps).values()) == {25}
    replayed = again(told, requests, **settings)
    assert replayed.steps == told.steps
    assert replayed.samples == told.samples


def test_a_prefix_cache_hit_is_told_and_followed():
    shared = prompt(5, 20)
    requests = [request("a", shared), request("b", [*shared, 5, 6], arrival=4)]
    told = heard(started(requests, page_size=4))
    events = [event for step in told.steps for event in step.events]
    assert [(event.kind, event.request, event.tokens) for event in events] == [(EventKind.HIT, "b", 20)]
    assert again(told, requests, page_size=4).steps == told.steps


def test_a_request_waits_for_its_arrival_and_an_idle_engine_does_not():
    requests = [request("a", prompt(1, 4), max_tokens=6), request("b", prompt(2, 4), arrival=3)]
    told = heard(started(requests))
    assert min(step.index for step in told.steps for part in step.slices if part.request == "b") == 3
    late = heard(started([requests[0], {**requests[1], "arrival": 99}]))
    assert [step.index for step in late.steps] == list(range(len(late.steps)))
    assert len(taken_by(late, "b")) == 6


def test_another_engines_schedule_is_followed():
    """The built-in engine's chunks are of 16, whatever transformers would cut."""
    theirs = small.told(small.started(TWO, max_num_batched_tokens=32))
    forced = {r["id"]: [s.taken for s in theirs.samples if s.request == r["id"]] for r in TWO}
    told = heard(started(TWO, forced=forced, max_batch_tokens=64), plan=theirs.steps)
    assert [[(p.request, p.start, p.stop) for p in step.slices] for step in told.steps] == [
        [(p.request, p.start, p.stop) for p in step.slices] for step in theirs.steps
    ]


def test_a_plan_that_the_engine_cannot_run():
    told = heard(started(TWO, max_batch_tokens=32))
    with pytest.raises(ReplayError, match=r"step 0 has 27 rows, engine.max_batch_tokens is 16"):
        again(told, TWO, max_batch_tokens=16)
    early = [replace(told.steps[0], slices=(replace(told.steps[0].slices[0], start=4),))]
    with pytest.raises(ReplayError, match=r"step 0: recorded a \[4, 20\), transformers runs a \[0, 16\)"):
        heard(started(TWO, max_batch_tokens=32), plan=early)


def test_the_attention_that_was_asked_for_runs_where_flash_attention_is_installed(monkeypatch):
    engine = started(TWO)
    for version in (2, 3):
        name = f"is_flash_attn_{version}_available"
        api = "transformers.generation.continuous_batching.continuous_api"
        monkeypatch.setattr(f"{api}.{name}", lambda **_: True)
    engine.own_scheduler()
    assert engine.manifest()["attention"] in ("sdpa", "paged|sdpa")


def test_a_scheduler_that_was_not_built_is_seen():
    """transformers runs FIFO for a name that it does not know."""
    engine = started(TWO)
    engine.own_scheduler()
    with pytest.raises(EngineError, match="built its FIFOScheduler in place of"):
        check_built(engine._batches.scheduler)


def bits(told):
    """By op, request and position: the row's bytes."""
    return {place: [row.tobytes() for _, row in rows] for place, rows in told.rows().items()}


@pytest.mark.parametrize(("model", "dtype"), [("qwen2-tiny", "float32"), ("qwen3-tiny", "bfloat16")])
def test_with_invariant_kernels_a_row_does_not_see_its_batch(model, dtype):
    settings = {"model": model, "dtype": dtype, "invariant_kernels": True}
    together = bits(heard(started(TWO, max_batch_tokens=64, **settings)))
    assert bits(heard(started(TWO, max_batch_tokens=5, **settings))) == together
    alone = bits(heard(started(TWO[:1], **settings)))
    assert alone == {place: row for place, row in together.items() if place[1] == "a"}


@pytest.mark.parametrize("model", ["qwen2-tiny", "qwen3-tiny", "llama-tiny"])
def test_with_invariant_kernels_float32_has_the_built_in_engines_bits(model):
    ours = bits(heard(started(TWO, model=model, invariant_kernels=True)))
    theirs = bits(small.told(small.started(TWO, model=model)))
    assert ours == {place: theirs[place] for place in ours}


@pytest.mark.parametrize(
    "settings",
    [{}, {"attn_implementation": "eager"}, {"batching": "static"}],
    ids=["sdpa", "eager", "static"],
)
def test_ops_are_close_to_the_built_in_engines(settings):
    """The names say the same of both: what is another tensor, or another position, would be far off."""
    ours = heard(started(TWO, **settings)).rows()
    theirs = small.told(small.started(TWO)).rows()
    for place, rows in ours.items():
        np.testing.assert_allclose(
            rows[-1][1], theirs[place][-1][1], rtol=2e-3, atol=2e-4, err_msg=str(place)
        )


def test_an_op_that_does_not_run_is_refused():
    engine = started(TWO)
    mlp = engine._model.model.layers[1].mlp
    mlp.forward = lambda x: x
    with pytest.raises(EngineError, match=r"step 0: model.layers.1.mlp.down_proj ran 0 times"):
        heard(engine)
    del mlp.forward
    assert left_behind(engine) == []


def test_a_module_that_runs_twice_is_refused():
    engine = started(TWO)
    norm = engine._model.model.norm

    def twice(x):
        del norm.forward
        return norm(x)

    norm.forward = twice
    with pytest.raises(EngineError, match=r"step 0: model.norm ran 2 times"):
        heard(engine)


def test_a_rope_that_is_not_called_by_name_is_refused(monkeypatch):
    import sys

    engine = started(TWO)
    home = sys.modules[type(engine._model).__module__]
    attention = type(engine._model.model.layers[0].self_attn)
    plain, forward = home.apply_rotary_pos_emb, attention.forward

    def bypassing(self, *args, **kwargs):
        watched, home.apply_rotary_pos_emb = home.apply_rotary_pos_emb, plain
        try:
            return forward(self, *args, **kwargs)
        finally:
            home.apply_rotary_pos_emb = watched

    monkeypatch.setattr(attention, "forward", bypassing)
    with pytest.raises(EngineError, match=r"step 0: 0.rope_k was told 0 times, expected once; 8 such ops"):
        heard(engine)


@pytest.mark.parametrize("name", ["position_ids", "input_ids"])
def test_rows_that_are_not_what_the_slices_say_are_refused(name):
    engine = started(TWO)
    scheduler = engine.own_scheduler()
    processor = engine._batches._processor
    prepare = processor.prepare_next_batch

    def shifted():
        ready = prepare()
        getattr(processor.inputs_and_outputs, name)[3] += 1
        return ready

    processor.prepare_next_batch = shifted
    with pytest.raises(EngineError, match=rf"step 0: row 3: {name} is \d+, expected \d+"):
        next(engine.run(scheduler))


def test_a_part_that_has_moved_is_named(monkeypatch):
    engine = started(TWO)
    monkeypatch.delattr(
        "transformers.generation.continuous_batching.continuous_api.ContinuousBatchingManager"
        "._create_batch_processor"
    )
    with pytest.raises(
        EngineError, match="ContinuousBatchingManager has no _create_batch_processor"
    ) as caught:
        engine.own_scheduler()
    assert "tried with transformers 5.17 and 5.24" in caught.value.hint


@pytest.mark.parametrize(
    ("sampling", "problem"),
    [
        ({"temperature": 1}, "sampling.temperature: expected 0, got 1.0: transformers draws for all"),
        ({"repetition_penalty": 1.1}, "penalties, min_tokens and stop are not followed"),
        ({"min_tokens": 2}, "penalties, min_tokens and stop are not followed"),
        ({"stop": ["x"]}, "penalties, min_tokens and stop are not followed"),
    ],
)
def test_sampling_that_is_not_followed(sampling, problem):
    with pytest.raises(ConfigError, match=problem):
        started([request("a", [1, 2], **sampling)])


def test_a_request_ends_at_a_stop_token_or_at_its_length():
    told = heard(started([request("a", prompt(1, 6), max_tokens=5)]))
    third = taken_by(told, "a")[2]
    stopped = heard(started([request("a", prompt(1, 6), max_tokens=5, stop_token_ids=[third])]))
    assert [s.finish for s in told.samples] == ["", "", "", "", "length"]
    assert stopped.samples[-1].finish == "stop"
    assert taken_by(stopped, "a") == taken_by(told, "a")[: taken_by(told, "a").index(third) + 1]


def test_an_end_of_text_that_is_ignored_ends_no_batch():
    requests = [{**r, "sampling": {**r["sampling"], "ignore_eos": True}} for r in TWO]
    eos = started(TWO)._eos[0]
    for settings in ({}, {"batching": "static"}):
        told = heard(started(requests, forced={"a": [eos] * 5, "b": [eos] * 4}, **settings))
        assert [len(taken_by(told, name)) for name in "ab"] == [5, 4]


def test_a_padded_batch_of_others_is_no_plan_for_generate():
    told = heard(started(TWO, batching="static"))
    with pytest.raises(ReplayError, match=r"step 0: recorded a \[0, 20\), b \[0, 7\), transformers runs a"):
        again(told, TWO, batching="static", max_requests_per_batch=1)


def test_an_error_inside_generate_is_the_runs():
    engine = started(TWO, batching="static")
    engine._model.model.layers[1].mlp.forward = lambda x: x
    with pytest.raises(EngineError, match="down_proj ran 0 times"):
        heard(engine)
    assert engine._batches._thread is None

"""What is kept of a step, and that nothing else is."""

import numpy as np
import pytest

from detrec.engines.builtin.model import op_names
from detrec.engines.builtin.seeded import SeededCheckpoint
from detrec.replayer.capture import Capture
from tests.engines.small import started, told
from tests.replayer.moments import ENGINE, REQUESTS, STEP, moments, stopped


@pytest.fixture(scope="module")
def clean():
    return told(started(REQUESTS, **ENGINE))


def test_every_op_can_be_kept_and_its_output_is_what_the_probe_was_told(clean):
    found = moments()
    assert tuple(found) == tuple(op_names(SeededCheckpoint("qwen2-tiny").config))
    for name, output, kernel in clean.ops[STEP]:
        assert found[name].output.tobytes() == output.tobytes()
        assert found[name].kernel == kernel
        assert found[name].step == clean.steps[STEP]


def test_rows_are_told_by_request_and_position_and_those_that_sample_by_themselves(clean):
    found = moments()
    parts = clean.steps[STEP].slices
    places = [(part.request, p) for part in parts for p in range(part.start, part.stop)]
    assert len({part.samples for part in parts}) == 2
    assert found["1.attn"].places == tuple(places)
    assert found["logits"].places == tuple((part.request, part.stop - 1) for part in parts if part.samples)
    assert found["1.attn"].row(*places[5]) == 5
    assert found["1.attn"].row("a", 0) is None


def test_one_op_is_kept_and_nothing_of_any_other_step():
    for step in (0, STEP):
        capture = Capture("2.qkv", step)
        stopped(STEP, capture)
        assert list(capture.moments) == ["2.qkv"]
        assert capture.moments["2.qkv"].step.index == step
    capture = Capture("2.qkv", STEP + 1)
    stopped(STEP, capture)
    assert not capture.moments


@pytest.mark.parametrize(
    ("after", "names"),
    [
        ("1.attn", ["1.o_partial", "1.o_proj", "1.attn_residual"]),
        ("1.o_proj", ["1.attn_residual"]),
        (None, ["1.attn_residual"]),
        ("1.no_such_op", ["1.attn_residual"]),
    ],
)
def test_ops_between_two_are_kept_without_the_first(after, names):
    capture = Capture("1.attn_residual", STEP, after)
    stopped(STEP, capture)
    assert list(capture.moments) == names


def test_what_an_op_overwrites_is_kept_as_it_was_and_a_weight_is_not_copied():
    write, multiply = Capture("0.kv_write", STEP), Capture("0.qkv", STEP)
    engine = stopped(STEP, write, multiply)
    k, v, before, slots = write.moments["0.kv_write"].args
    lines = before.reshape(-1, 2 * k.shape[1])[slots]
    assert not lines.any()
    after = engine.decoder.layers[0].cache.reshape(-1, 2 * k.shape[1])[slots]
    assert after.tobytes() == np.concatenate((k, v), axis=1).tobytes()
    assert multiply.moments["0.qkv"].args[1] is engine.decoder.layers[0].qkv


def test_a_run_that_is_captured_has_the_bits_of_one_that_is_not(clean):
    captures = tuple(Capture(name, step) for name in ("0.kv_write", "sampled") for step in (1, STEP))
    watched = told(started(REQUESTS, start={"instruments": captures}, **ENGINE))
    assert watched.samples == clean.samples
    for ours, theirs in zip(clean.ops, watched.ops, strict=True):
        for (name, output, kernel), (other, again, other_kernel) in zip(ours, theirs, strict=True):
            assert (name, output.tobytes(), kernel) == (other, again.tobytes(), other_kernel)


def test_a_fault_is_in_the_op_that_is_kept():
    found = moments(start={"fault": f"split_k_by_batch:step={STEP},op=1.qkv,rows=64,splits=3"})
    assert found["1.qkv"].kernel == "cpu.split_k_matmul fma-chain leaves=3"
    again = found["1.qkv"].op("1.qkv", *found["1.qkv"].args)
    assert again.tobytes() == found["1.qkv"].output.tobytes() != moments()["1.qkv"].output.tobytes()

"""Recordings of transformers replayed: on itself, in other batches, and on the built-in engine."""

import pytest

from detrec.recorder.reader import TraceReader
from detrec.replayer.replay import replay
from tests.engines.small import prompt, request
from tests.replayer.foreign import recorded

REQUESTS = [request("a", prompt(1, 20)), request("b", prompt(2, 7)), request("c", prompt(3, 12), arrival=2)]


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("plain") / "run.zarr", REQUESTS, max_batch_tokens=16)


@pytest.fixture(scope="module")
def invariant(tmp_path_factory):
    path = tmp_path_factory.mktemp("invariant") / "run.zarr"
    return recorded(path, REQUESTS, max_batch_tokens=16, invariant_kernels=True)


def test_a_replay_is_identical(trace):
    done = replay(trace, diagnose=True)
    assert done.comparison.verdict == "identical"
    assert done.comparison.tokens.equal


def test_a_replay_that_is_free_to_schedule_is_identical_too(trace):
    assert replay(trace, mode="free").comparison.verdict == "identical"


@pytest.mark.parametrize("other", ["max_batch_tokens=5", "max_requests_per_batch=1"])
def test_with_invariant_kernels_another_batch_composition_is_identical(invariant, other):
    done = replay(invariant, mode="tokens", overrides=[f"engine.{other}"])
    assert done.comparison.schedule_diff.total
    assert done.comparison.verdict == "identical"


def test_other_kernels_are_found_and_the_first_op_is_named(trace):
    done = replay(trace, overrides=["engine.invariant_kernels=true"])
    assert (done.comparison.first.layer, done.comparison.first.op) == (0, "attn_norm")
    assert done.tolerance.first is None


def test_the_built_in_engine_is_within_tolerance(trace):
    done = replay(trace, overrides=["engine.name=builtin"], by_sketch=True)
    assert done.comparison.verdict == "diverged"
    assert done.tolerance.first is None


def test_a_wrong_rope_base_on_the_built_in_engine_is_named(trace):
    done = replay(
        trace, overrides=["engine.name=builtin"], by_sketch=True, fault="wrong_rope_base:percent=1000"
    )
    assert (done.tolerance.first.layer, done.tolerance.first.op) == (0, "rope_q")


def test_with_invariant_kernels_the_built_in_engine_is_identical(invariant):
    assert replay(invariant, overrides=["engine.name=builtin"]).comparison.verdict == "identical"


def test_a_recording_of_the_built_in_engine_replays_on_transformers(tmp_path):
    path = recorded(tmp_path / "own.zarr", REQUESTS, name="builtin", max_num_batched_tokens=16)
    done = replay(path, overrides=["engine.name=transformers"], by_sketch=True)
    assert done.tolerance.first is None
    assert done.comparison.tokens.equal


def test_the_manifest_names_what_can_change_bits(trace):
    manifest = TraceReader(trace).manifest
    assert {"torch", "transformers", "threads", "attention", "num_blocks"} <= set(manifest["engine"])
    assert manifest["config"]["engine"]["dtype"] == "float32"

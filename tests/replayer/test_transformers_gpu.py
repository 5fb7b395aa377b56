"""Recordings of transformers on a GPU replayed: on itself, in other batches, and with detrec's kernels."""

import pytest

from detrec.engines.builtin import seeded
from detrec.replayer.replay import replay
from tests.engines.small import prompt, request
from tests.replayer.foreign import recorded

pytestmark = pytest.mark.gpu

REQUESTS = [request(name, prompt(seed, 3 + 9 * seed), arrival=seed) for seed, name in enumerate("abcdef")]


@pytest.fixture(scope="module", autouse=True)
def wide():
    """Products long enough that cuBLAS splits them otherwise for few rows than for many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(seeded._MODELS, "wide", seeded._model("qwen2", 2048, 1024, 2816, 3, (16, 4)))
        yield


def on_gpu(path, **engine):
    settings = {"device": "gpu", "dtype": "bfloat16", "max_batch_tokens": 64}
    return recorded(path, REQUESTS, "wide", **{**settings, **engine})


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    return on_gpu(tmp_path_factory.mktemp("plain") / "run.zarr")


@pytest.fixture(scope="module")
def invariant(tmp_path_factory):
    return on_gpu(tmp_path_factory.mktemp("invariant") / "run.zarr", invariant_kernels=True)


def test_a_replay_is_identical(trace):
    done = replay(trace, diagnose=True)
    assert done.comparison.verdict == "identical"
    assert done.comparison.tokens.equal
    assert done.tolerance.first is None


def test_another_batch_composition_diverges_and_the_first_op_is_named(trace):
    done = replay(trace, mode="tokens", overrides=["engine.max_batch_tokens=5"])
    assert done.comparison.schedule_diff.total
    assert done.comparison.verdict == "diverged"
    # an op that adds along a row, or the product of two: the others cannot see their batch
    assert done.comparison.first.op in (
        "attn_norm",
        "qkv",
        "attn",
        "o_proj",
        "mlp_norm",
        "gate_up",
        "down_proj",
    )


@pytest.mark.parametrize("other", ["max_batch_tokens=5", "max_requests_per_batch=1"])
def test_with_invariant_kernels_another_batch_composition_is_identical(invariant, other):
    done = replay(invariant, mode="tokens", overrides=[f"engine.{other}"])
    assert done.comparison.schedule_diff.total
    assert done.comparison.verdict == "identical"


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_with_invariant_kernels_the_same_holds_in(tmp_path, dtype):
    path = on_gpu(tmp_path / "run.zarr", invariant_kernels=True, dtype=dtype)
    done = replay(path, mode="tokens", overrides=["engine.max_batch_tokens=5"])
    assert done.comparison.verdict == "identical"


def test_other_kernels_are_found_and_are_within_tolerance(trace):
    done = replay(trace, overrides=["engine.invariant_kernels=true"])
    assert done.comparison.verdict == "diverged"
    assert done.tolerance.first is None


def test_the_built_in_engine_on_the_same_gpu_is_within_tolerance(trace):
    done = replay(
        trace, overrides=["engine.name=builtin", "engine.device=gpu", "engine.dtype=bfloat16"], by_sketch=True
    )
    assert done.tolerance.first is None

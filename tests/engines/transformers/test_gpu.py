"""transformers on a GPU: it keeps the contract, and what is fingerprinted is what was computed."""

from contextlib import closing
from typing import ClassVar

import numpy as np
import pytest

from detrec.engines.base import SAMPLE_OPS
from detrec.engines.contract.told import heard
from detrec.kernels import cuda
from detrec.kernels.cpu.fingerprint import fingerprint
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import run_recorded
from tests.engines.small import prompt, request
from tests.engines.transformers.test_contract import Contract
from tests.engines.transformers.tiny import started

pytestmark = pytest.mark.gpu

REQUESTS = [request(name, prompt(seed, 3 + 9 * seed), arrival=seed) for seed, name in enumerate("abcde")]


class TestInBfloat16(Contract):
    settings: ClassVar[dict[str, object]] = {"device": "gpu", "dtype": "bfloat16"}


class TestWithInvariantKernelsInBfloat16(Contract):
    model = "qwen3-tiny"
    settings: ClassVar[dict[str, object]] = {
        "device": "gpu",
        "dtype": "bfloat16",
        "invariant_kernels": True,
    }


class TestInFloat16(Contract):
    model = "llama-tiny"
    settings: ClassVar[dict[str, object]] = {"device": "gpu", "dtype": "float16"}


class TestStaticBatches(Contract):
    settings: ClassVar[dict[str, object]] = {
        "device": "gpu",
        "dtype": "bfloat16",
        "batching": "static",
        "max_requests_per_batch": 2,
    }

    def test_prompts_are_cut_and_batches_are_mixed(self, told):
        """Prompts run whole, and beside each other only: what a step mixes is requests."""
        assert {len(step.slices) for step in told.steps} == {1, 2}


@pytest.mark.parametrize("settings", [{}, {"invariant_kernels": True}, {"batching": "static"}], ids=str)
def test_fingerprints_are_those_of_what_was_computed(tmp_path, settings):
    """Whoever waits for each output and copies it sees the bits that nobody waited for when recording."""
    settings = {"device": "gpu", "dtype": "bfloat16", **settings}
    engine = started(REQUESTS, model="qwen3-tiny", **settings)
    before = cuda.waits()
    with closing(engine):
        run_recorded(engine, engine.own_scheduler(), engine.config, str(tmp_path / "run.zarr"))
    trace = TraceReader(str(tmp_path / "run.zarr"))
    # those of the last steps, at the end, are waited for too
    assert trace.n_steps <= cuda.waits() - before <= trace.n_steps + 8
    told = heard(started(REQUESTS, model="qwen3-tiny", **settings))
    expected = trace.fingerprints(0, trace.n_rows)
    start = 0
    for step, ops in zip(told.steps, told.ops, strict=True):
        for name, output, _ in ops:
            rows = step.sample_rows if name in SAMPLE_OPS else range(step.rows)
            found = fingerprint(output, np.empty(len(output), np.uint64))
            column = trace.ops.index(name)
            assert found.tolist() == [int(expected[start + row, column]) for row in rows], (step.index, name)
        start += step.rows


def bits(told):
    """By op, request and position: the row's bytes."""
    return {place: [row.tobytes() for _, row in rows] for place, rows in told.rows().items()}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("model", ["qwen2-tiny", "qwen3-tiny", "llama-tiny"])
def test_with_invariant_kernels_a_row_does_not_see_its_batch(model, dtype):
    settings = {"model": model, "device": "gpu", "dtype": dtype, "invariant_kernels": True}
    together = bits(heard(started(REQUESTS, **settings, max_batch_tokens=64)))
    assert bits(heard(started(REQUESTS, **settings, max_batch_tokens=5))) == together
    alone = bits(heard(started(REQUESTS[4:], **settings, max_batch_tokens=64)))
    assert alone == {place: row for place, row in together.items() if place[1] == "e"}


@pytest.mark.parametrize("model", ["qwen2-tiny", "qwen3-tiny", "llama-tiny"])
def test_with_invariant_kernels_float32_has_the_bits_of_the_cpu(model):
    settings = {"model": model, "invariant_kernels": True}
    assert bits(heard(started(REQUESTS, device="gpu", **settings))) == bits(
        heard(started(REQUESTS, **settings))
    )

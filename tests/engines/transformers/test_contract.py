"""transformers' continuous batching keeps the contract, for each family and with either kind of kernels."""

from typing import ClassVar

from detrec.engines.contract import AdapterContract
from tests.engines.transformers import tiny


class Contract(AdapterContract):
    model = "qwen2-tiny"
    settings: ClassVar[dict[str, object]] = {}

    @classmethod
    def start(cls, requests, *, forced=None):
        return tiny.started(requests, model=cls.model, forced=forced, **cls.settings)

    @classmethod
    def left_behind(cls, engine):
        return tiny.left_behind(engine)


class TestQwen2(Contract):
    pass


class TestLlamaInBfloat16(Contract):
    model = "llama-tiny"
    settings: ClassVar[dict[str, object]] = {"dtype": "bfloat16"}


class TestInvariantKernelsInBfloat16(Contract):
    model = "qwen3-tiny"
    settings: ClassVar[dict[str, object]] = {"invariant_kernels": True, "dtype": "bfloat16"}


class TestStaticBatches(Contract):
    settings: ClassVar[dict[str, object]] = {"batching": "static", "max_requests_per_batch": 2}

    def test_prompts_are_cut_and_batches_are_mixed(self, told):
        """Prompts run whole, and beside each other only: what a step mixes is requests."""
        assert {len(step.slices) for step in told.steps} == {1, 2}

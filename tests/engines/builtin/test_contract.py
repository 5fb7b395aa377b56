"""The built-in engine keeps the contract that adapters keep."""

from detrec.engines.contract import AdapterContract
from tests.engines.small import started


class TestBuiltin(AdapterContract):
    @classmethod
    def start(cls, requests, *, forced=None):
        return started(requests, start={"forced": forced}, max_num_batched_tokens=16, split_kv_size=8)

    @classmethod
    def left_behind(cls, engine):
        return [] if engine.ops is engine._runner.ops else ["a watched table"]

"""The adapter keeps the contract: `pip install pytest`, then `pytest examples/adapter`."""

from toy_engine import ToyEngine

from detrec.config import serve_config
from detrec.engines.contract import AdapterContract


class TestToy(AdapterContract):
    @classmethod
    def start(cls, requests, *, forced=None):
        engine = {"name": "toy", "budget": 16}
        return ToyEngine(
            serve_config({"model": "toy", "engine": engine, "requests": requests}), forced=forced
        )

    @classmethod
    def left_behind(cls, engine):
        return [path for path, module in engine.model.named_sublayers() if module._forward_post_hooks]

"""The offline entry point."""

from fastdeploy.engine.args_utils import EngineArgs
from fastdeploy.engine.engine import LLMEngine


class LLM:
    def __init__(self, model, **kwargs):
        self.llm_engine = LLMEngine.from_engine_args(EngineArgs(model=model, **kwargs))
        self.llm_engine.start()

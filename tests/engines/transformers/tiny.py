"""transformers on a tiny model in this process, where it is installed."""

from typing import Any

import pytest

from detrec.config import serve_config
from detrec.engines.start import start_engine

REASON = "transformers and torch are not installed: pip install 'detrec[transformers]'"


def started(requests: list[dict[str, Any]], *, model: str = "qwen2-tiny", forced: Any = None, **engine: Any):
    """A TransformersEngine over `requests`; the rest is engine settings."""
    pytest.importorskip("torch", reason=REASON)
    pytest.importorskip("transformers", reason=REASON)
    rows = {} if "batching" in engine else {"max_batch_tokens": 16}
    settings = {"name": "transformers", **rows, **engine}
    config = serve_config({"model": f"builtin:{model}", "engine": settings, "requests": requests})
    return start_engine(config, forced=forced)


def left_behind(engine: Any) -> list[str]:
    """Hooks on modules, forwards that are not their class's, functions of the module that are not its own."""
    import sys

    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    model = engine._model
    home = sys.modules[type(model).__module__]
    found = [
        path
        for path, module in model.named_modules()
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    ]
    if home.apply_rotary_pos_emb.__module__ != home.__name__:
        found.append("apply_rotary_pos_emb")
    return [*found, *ALL_ATTENTION_FUNCTIONS._local_mapping]

"""Recordings of transformers to be replayed, where it is installed."""

from pathlib import Path
from typing import Any

import pytest

from detrec.config import serve_config
from detrec.recorder.record import record
from tests.engines.transformers.tiny import REASON


def recorded(path: Path, requests: list[dict[str, Any]], model: str = "qwen2-tiny", **engine: Any) -> str:
    """The path of a trace with sketches, so that another engine may replay it. `engine` is its settings."""
    for package in ("torch", "transformers"):
        pytest.importorskip(package, reason=REASON)
    config = {
        "model": f"builtin:{model}",
        "engine": {"name": "transformers", **engine},
        "requests": requests,
        "record": {"sketch": True},
    }
    record(serve_config(config), str(path))
    return str(path)

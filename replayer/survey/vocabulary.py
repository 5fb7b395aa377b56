"""The text of tokens, from the recorded model's own tokenizer, where that is at hand.

The model itself is not loaded. An adapter's engine, a model that is elsewhere or a vocabulary that cannot be
read give none: token ids are shown then.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from detrec.errors import DetrecError
from detrec.replayer.survey.tokens import Text


def vocabulary(manifest: Mapping[str, Any]) -> Text | None:
    """The text of one token of the model that a manifest names, or None."""
    model = manifest.get("config", {}).get("model")
    return _of_model(model) if isinstance(model, str) else None


@lru_cache(maxsize=4)
def _of_model(model: str) -> Text | None:
    try:
        tokenizer = _tokenizer(model)
    except (DetrecError, OSError):
        return None
    if tokenizer is None:
        return None

    @lru_cache(maxsize=1 << 16)
    def text(token: int) -> str:
        return str(tokenizer.decode([token]))

    return text


def _tokenizer(model: str) -> Any:
    if model.startswith("builtin:"):
        from detrec.engines.builtin.seeded import SeededCheckpoint

        return SeededCheckpoint(model.removeprefix("builtin:")).tokenizer()
    path = Path(model)
    if path.is_dir():
        from detrec.engines.builtin.tokenizer_files import directory_tokenizer

        return directory_tokenizer(path)
    if path.is_file():
        from detrec.engines.builtin.gguf_checkpoint import GgufCheckpoint

        return GgufCheckpoint(path).tokenizer()
    return None

"""The text of tokens, from the recorded model's own tokenizer, where that is at hand.

The model itself is not loaded. An adapter's engine, a model that is elsewhere or a vocabulary that cannot be
read give none: token ids are shown then.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from detrec.errors import DetrecError
from detrec.replayer.survey.tokens import Text


def vocabulary(manifest: Mapping[str, Any]) -> Text | None:
    """The text of one token of the model that a manifest names, or None."""
    model = manifest.get("config", {}).get("model")
    return _of_model(model) if isinstance(model, str) else None


@lru_cache(maxsize=4)
def _of_model(model: str) -> Text | None:
    # it loads the engine's kernels, which a trace can be opened without
    from detrec.engines.builtin.weights import open_checkpoint

    try:
        tokenizer = open_checkpoint(model).tokenizer()
    except DetrecError:
        return None

    @lru_cache(maxsize=1 << 16)
    def text(token: int) -> str:
        return str(tokenizer.decode([token]))

    return text

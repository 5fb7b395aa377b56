"""Counts, numbers and token ids out of a model's metadata, each refused by name where it is not one."""

from collections.abc import Mapping
from typing import Any

from detrec.errors import ModelError

_INCOMPLETE = "is this the model's own file, and complete?"
_SHOWN = 120


def refused(where: str, key: str, expected: str, got: Any, hint: str = _INCOMPLETE) -> ModelError:
    """The error for a value that cannot be used; a `got` of None reads as nothing."""
    given = "nothing" if got is None else repr(got)
    given = given if len(given) <= _SHOWN else given[:_SHOWN] + "..."
    return ModelError(f"{where}: {key}: expected {expected}, got {given}", hint=hint)


def count(data: Mapping[str, Any], key: str, where: str, default: int | None = None) -> int:
    """A whole number of at least 1; an absent or null one is `default`."""
    value = data.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise refused(where, key, "a whole number of at least 1", value)
    return value


def number(data: Mapping[str, Any], key: str, where: str, default: float | None = None) -> float:
    """A positive finite number; an absent or null one is `default`."""
    value = data.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise refused(where, key, "a positive number", value)
    return float(value)


def token_ids(data: Mapping[str, Any], key: str, where: str) -> list[int]:
    """Token ids given as one number, as a list, or not at all."""
    value = data.get(key)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    for token in ids:
        if isinstance(token, bool) or not isinstance(token, int) or token < 0:
            raise refused(where, key, "token ids", value)
    return ids

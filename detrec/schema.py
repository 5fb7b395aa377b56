"""Plain data into frozen dataclasses, refusing what does not fit.

Field metadata gives the bounds: `min`, `max`, `above` (exclusive), `choices`, `power_of_two`; what is
`derived` is no key.
"""

import difflib
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from detrec.errors import ConfigError

T = TypeVar("T")


def known_keys(data: Mapping[str, Any], cls: type, where: str) -> None:
    """Refuse a key that `cls` does not have, naming the nearest one it has."""
    names = [f.name for f in fields(cls) if not f.metadata.get("derived")]
    for key in data:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(names)}"
            raise ConfigError(f"{where}: unknown key {key!r}", hint=hint)


def require(value: Any, where: str, problem: str, hint: str) -> None:
    """Refuse an absent or empty value."""
    if not value:
        raise ConfigError(f"{where}: {problem}", hint=hint)


def kind_of(value: Any) -> str:
    """What a value is, in a reader's words."""
    return _KINDS.get(type(value), type(value).__name__)


def section(data: Mapping[str, Any], key: str, where: str, hint: str = "") -> dict[str, Any]:
    """The mapping at `key`, empty where there is nothing; ConfigError for anything else."""
    found = data.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: {key}: expected a mapping, got {kind_of(found)}", hint=hint)
    return found


def build(cls: type[T], data: Any, where: str) -> T:
    """`cls(**data)` with every key known, every value of the field's type and inside its bounds."""
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected a mapping, got {kind_of(data)}")
    known_keys(data, cls, where)
    hints = get_type_hints(cls)
    values = {}
    for f in fields(cls):  # type: ignore[arg-type]
        if f.name in data:
            value = _convert(data[f.name], hints[f.name], f"{where}: {f.name}")
            _bounds(value, f, f"{where}: {f.name}")
            values[f.name] = value
        elif f.default is MISSING and f.default_factory is MISSING:
            raise ConfigError(f"{where}: {f.name}: missing")
    return cls(**values)


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        options = get_args(hint)
        if value is None and type(None) in options:
            return None
        return _convert(value, next(option for option in options if option is not type(None)), where)
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        return tuple(_convert(item, get_args(hint)[0], f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a mapping, got {value!r}")
        key, item = get_args(hint)
        return {_convert(k, key, where): _convert(v, item, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ConfigError(f"{where}: expected a number that a float holds, got {value}") from None
    # bool is an int to Python, never to a reader of serve.yaml
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(
            f"{where}: expected {_NAMES.get(hint, hint.__name__)}, got {value!r}",
            hint="YAML takes it for text: leave out quotes, and write 1e-3 as 1.0e-3"
            if hint in (int, float) and _is_number(value)
            else "",
        )
    if isinstance(value, str):
        _text(value, where)
    return value


def _is_number(value: Any) -> bool:
    try:
        float(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return True


def _text(value: str, where: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{where}: expected text, got half a character at {error.start}: {value!r}",
            hint="\\ud800 to \\udfff are no characters by themselves",
        ) from None


_KINDS = {
    type(None): "nothing",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}
_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _bounds(value: Any, f: Field[Any], where: str) -> None:
    if value is None:
        return
    limits = f.metadata
    if "choices" in limits and value not in limits["choices"]:
        near = difflib.get_close_matches(str(value), limits["choices"], n=1)
        raise ConfigError(
            f"{where}: expected one of {', '.join(limits['choices'])}, got {value!r}",
            hint=f"did you mean {near[0]}?" if near else "",
        )
    if isinstance(value, float) and value != value:
        raise ConfigError(f"{where}: expected a number, got nan")
    if "min" in limits and value < limits["min"]:
        raise ConfigError(f"{where}: expected at least {limits['min']}, got {value}")
    if "above" in limits and value <= limits["above"]:
        raise ConfigError(f"{where}: expected more than {limits['above']}, got {value}")
    if "max" in limits and value > limits["max"]:
        raise ConfigError(f"{where}: expected at most {limits['max']}, got {value}")
    if limits.get("power_of_two") and value & (value - 1):
        raise ConfigError(f"{where}: expected a power of two, got {value}")

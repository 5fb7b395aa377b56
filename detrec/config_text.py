"""Text that a person wrote, YAML or lines of JSON, into plain data.

What a parser would drop or trip over is refused and its place named: a key that is given twice, a number too
long for Python, nesting without end.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from detrec.errors import ConfigError

_UNENDING = "nested too deeply"


def text_of(path: Path, hint: str = "") -> str:
    """The file's text; a byte order mark is no part of it. ConfigError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}",
            hint="save it as UTF-8",
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}", hint=hint) from None
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read: {error}", hint=hint) from None


def from_yaml(text: str, where: str) -> Any:
    """The data of a YAML document. ConfigError with line and column where it is none."""
    import yaml

    try:
        return yaml.load(text, _loader())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(
            f"{place}: not YAML: {problem}", hint="check indentation and quotes there"
        ) from None
    except RecursionError:
        raise ConfigError(f"{where}: not YAML for settings: {_UNENDING}") from None


def from_json(text: str, where: str) -> Any:
    """The data of one line of JSON. ConfigError where it is none."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{where}: not JSON: {error.msg}, at column {error.colno}", hint="one object a line, and no more"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{where}: not JSON for a request: {error}") from None
    except RecursionError:
        raise ConfigError(f"{where}: not JSON for a request: {_UNENDING}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is given twice")
        found[key] = value
    return found


@cache
def _loader() -> Any:
    """YAML's safe loader, which also says where a key is given twice, and where a value is none."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                if key.tag == "tag:yaml.org,2002:str":
                    if key.value in seen:
                        raise yaml.constructor.ConstructorError(
                            None, None, f"{key.value!r} is given twice", key.start_mark
                        )
                    seen.add(key.value)
            return super().construct_mapping(node, deep)

    def placed(construct: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def constructed(loader: Any, node: Any) -> Any:
            try:
                return construct(loader, node)
            except ValueError as error:
                raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None

        return constructed

    # a day that no month has, a number of more digits than Python reads
    for kind in ("int", "timestamp"):
        Loader.add_constructor(
            f"tag:yaml.org,2002:{kind}", placed(getattr(yaml.SafeLoader, f"construct_yaml_{kind}"))
        )
    return Loader

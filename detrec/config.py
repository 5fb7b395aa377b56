"""serve.yaml read and checked: what to run, how, for which requests, and what to keep.

Keys carry FastDeploy's own names. Nothing is clamped, defaulted away or ignored: a key or value that
cannot be honoured is refused, and the nearest known key is named.
"""

import copy
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from detrec.config_checks import check_together
from detrec.config_engines import check_engine_name, own_keys
from detrec.config_requests import requests_of
from detrec.config_settings import (
    DEFAULT_SEED,
    MAX_SEED,
    EngineConfig,
    RecordConfig,
    RequestConfig,
    SamplingParams,
    ServeConfig,
)
from detrec.config_text import from_yaml, text_of
from detrec.errors import ConfigError
from detrec.schema import build, kind_of, known_keys, require, section

__all__ = [
    "DEFAULT_SEED",
    "MAX_SEED",
    "EngineConfig",
    "RecordConfig",
    "RequestConfig",
    "SamplingParams",
    "ServeConfig",
    "apply_overrides",
    "load_config",
    "serve_config",
]


def load_config(
    path: str | Path, overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> ServeConfig:
    """Read serve.yaml and apply `key=value` overrides.

    The model and a file of requests are relative to its folder, as they belong to it; the output is relative
    to where the command runs.

    Raises ConfigError for a missing file, malformed YAML, and all that `serve_config` refuses.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise ConfigError(f"{path}: no such file", hint="name a serve.yaml; the README has one to copy")
    if os.path.isdir(path):
        raise ConfigError(f"{path}: is a directory, not a serve.yaml", hint="name the file in it")
    data = from_yaml(text_of(path, hint="name a serve.yaml that you may read"), str(path))
    return serve_config(apply_overrides(data, overrides), base=path.parent, environ=environ, where=str(path))


def apply_overrides(data: Any, overrides: Sequence[str]) -> Any:
    """`data` with each `a.b=value` set; values are read as YAML. The input is not changed."""
    if not isinstance(data, dict):
        # refused by who reads it
        return data
    data = copy.deepcopy(data) if overrides else data
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(
                f"--set {text}: expected key=value", hint="for example --set engine.max_num_seqs=1"
            )
        *parents, last = key.split(".")
        target = data
        for depth, name in enumerate(parents):
            if isinstance(target, dict):
                target = target.setdefault(name, {})
            if not isinstance(target, dict):
                raise ConfigError(
                    f"--set {text}: {'.'.join(parents[: depth + 1])} is not a mapping",
                    hint="a list is set as a whole: --set 'requests=[{prompt: hello}]'",
                )
        target[last] = from_yaml(value, f"--set {key}")
    return data


def serve_config(
    data: Any, *, base: Path = Path(), environ: Mapping[str, str] | None = None, where: str = "serve.yaml"
) -> ServeConfig:
    """A checked ServeConfig from plain data. `environ` None means: no environment variable is looked at."""
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected a mapping of settings, got {kind_of(data)}")
    astray = [f.name for f in fields(EngineConfig) if f.name in data]
    if astray:
        raise ConfigError(f"{where}: unknown key {astray[0]!r}", hint=f"did you mean engine.{astray[0]}?")
    known_keys(data, ServeConfig, where)
    require(data.get("model"), f"{where}: model", "missing", "for example model: builtin:qwen2-tiny")
    engine = dict(section(data, "engine", where, hint="another engine is named by engine.name"))
    if environ is not None:
        _honour_environment(engine, environ)
    settings = _engine(engine, f"{where}: engine")
    config = ServeConfig(
        model=_model_path(data["model"], base, where, foreign=settings.name != "builtin"),
        engine=settings,
        requests=requests_of(data.get("requests", []), base, where),
        record=build(RecordConfig, section(data, "record", where), f"{where}: record"),
    )
    check_together(config, where)
    return config


def _engine(data: dict[str, Any], where: str) -> EngineConfig:
    """The section; what a foreign engine is to make of its own arguments only that engine knows."""
    name = data.get("name", "builtin")
    own: Collection[str] = data
    # what is no text is refused by its type
    if isinstance(name, str):
        check_engine_name(name, where)
        own = own_keys(name) or data
    arguments = {key: value for key, value in data.items() if key not in own}
    engine = build(EngineConfig, {key: value for key, value in data.items() if key in own}, where)
    return replace(engine, arguments=arguments)


def _model_path(model: Any, base: Path, where: str, *, foreign: bool) -> str:
    if not isinstance(model, str):
        raise ConfigError(f"{where}: model: expected a name or a path, got {model!r}")
    if model.startswith("builtin:") or Path(model).is_absolute():
        return model
    path = base / os.path.expanduser(model)
    # to a foreign engine it may be a name that only that engine can look up
    return model if foreign and not path.exists() else str(path)


_ENVIRONMENT: dict[str, tuple[str, Callable[[str], bool | int]]] = {
    "FD_DETERMINISTIC_MODE": ("deterministic", lambda text: bool(int(text))),
    "FD_DETERMINISTIC_SPLIT_KV_SIZE": ("split_kv_size", int),
}


def _honour_environment(engine: dict[str, Any], environ: Mapping[str, str]) -> None:
    """FastDeploy's variables fill in what serve.yaml leaves open; a contradiction is an error."""
    own = own_keys(str(engine.get("name", "builtin")))
    for variable, (key, parse) in _ENVIRONMENT.items():
        if variable not in environ or (own is not None and key not in own):
            continue
        try:
            value = parse(environ[variable])
        except ValueError:
            raise ConfigError(f"{variable}: expected a whole number, got {environ[variable]!r}") from None
        if engine.setdefault(key, value) != value:
            said = json.dumps(engine[key], default=str)
            raise ConfigError(
                f"{variable}={environ[variable]} contradicts engine.{key}: {said}",
                hint=f"unset {variable}, or drop engine.{key}",
            )

"""serve.yaml as frozen dataclasses: what to run, how, for which requests, and what to keep.

Keys carry FastDeploy's own names. Nothing is clamped, defaulted away or ignored: a key or value that
cannot be honoured is refused, and the nearest known key is named.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from detrec.errors import ConfigError
from detrec.schema import build, known_keys, require

DEFAULT_SEED = 42
MAX_SEED = 922337203685477580


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How one request is continued. `temperature: 0` is greedy; `top_k: 0` and `top_p: 1` are off."""

    max_tokens: int = field(default=16, metadata={"min": 1})
    min_tokens: int = field(default=0, metadata={"min": 0})
    temperature: float = field(default=1.0, metadata={"min": 0.0})
    top_k: int = field(default=0, metadata={"min": 0})
    top_p: float = field(default=1.0, metadata={"above": 0.0, "max": 1.0})
    min_p: float = field(default=0.0, metadata={"min": 0.0, "max": 1.0})
    repetition_penalty: float = field(default=1.0, metadata={"above": 0.0})
    presence_penalty: float = field(default=0.0, metadata={"min": -2.0, "max": 2.0})
    frequency_penalty: float = field(default=0.0, metadata={"min": -2.0, "max": 2.0})
    seed: int | None = field(default=None, metadata={"min": 0, "max": MAX_SEED})
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestConfig:
    """One request of serve.yaml: exactly one of `prompt`, `messages` and `prompt_token_ids`."""

    id: str
    prompt: str | None = None
    messages: tuple[dict[str, str], ...] | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    arrival: int = field(default=0, metadata={"min": 0})
    sampling: SamplingParams = SamplingParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How the engine runs. `seed` is for requests that name none; None becomes 42 in deterministic mode.

    `use_cudagraph`: on a GPU, steps of decodes alone are captured and run as CUDA graphs.
    """

    name: str = field(default="builtin", metadata={"choices": ("builtin",)})
    framework: str = field(default="paddle", metadata={"choices": ("paddle", "torch")})
    device: str = field(default="cpu", metadata={"choices": ("cpu", "gpu")})
    dtype: str = field(default="float32", metadata={"choices": ("float32", "bfloat16", "float16")})
    deterministic: bool = True
    tensor_parallel_size: int = field(default=1, metadata={"min": 1})
    max_model_len: int = field(default=2048, metadata={"min": 2})
    max_num_seqs: int = field(default=8, metadata={"min": 1})
    max_num_batched_tokens: int = field(default=512, metadata={"min": 1})
    block_size: int = field(default=16, metadata={"min": 1, "power_of_two": True})
    num_gpu_blocks_override: int | None = field(default=None, metadata={"min": 1})
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    use_cudagraph: bool = True
    split_kv_size: int = field(default=16, metadata={"min": 1, "power_of_two": True})
    seed: int | None = field(default=None, metadata={"min": 0, "max": MAX_SEED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordConfig:
    """What a recording keeps: `level: layer` the layer outputs and the ops outside layers, `op` every op."""

    output: str = "run.zarr"
    level: str = field(default="op", metadata={"choices": ("layer", "op")})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """A whole serve.yaml. `model` is `builtin:NAME`, a directory, or a .gguf file."""

    model: str
    engine: EngineConfig = EngineConfig()
    requests: tuple[RequestConfig, ...] = ()
    record: RecordConfig = RecordConfig()

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, so that `serve_config(config.to_json())` gives the config back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def load_config(
    path: str | Path, overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> ServeConfig:
    """Read serve.yaml and apply `key=value` overrides.

    The model and a file of requests are relative to its folder, as they belong to it; the output is relative
    to where the command runs.

    Raises ConfigError for a missing file, malformed YAML, and all that `serve_config` refuses.
    """
    import yaml

    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file", hint="name a serve.yaml; the README has one to copy"
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a directory, not a serve.yaml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(
            f"{where}: not YAML: {problem}", hint="check indentation and quotes there"
        ) from None
    return serve_config(apply_overrides(data, overrides), base=path.parent, environ=environ, where=str(path))


def apply_overrides(data: Any, overrides: Sequence[str]) -> Any:
    """`data` with each `a.b=value` set; values are read as YAML. The input is not changed."""
    import yaml

    data = json.loads(json.dumps(data)) if overrides else data
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"--set {text}: expected key=value", hint="for example --set engine.max_num_seqs=1"
            )
        *parents, last = key.split(".")
        target = data
        for depth, name in enumerate(parents):
            if isinstance(target, dict):
                target = target.setdefault(name, {})
            if not isinstance(target, dict):
                raise ConfigError(f"--set {text}: {'.'.join(parents[: depth + 1])} is not a mapping")
        try:
            target[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"--set {text}: {value!r} is not a YAML value") from None
    return data


def serve_config(
    data: Any, *, base: Path = Path(), environ: Mapping[str, str] | None = None, where: str = "serve.yaml"
) -> ServeConfig:
    """A checked ServeConfig from plain data. `environ` None means: no environment variable is looked at."""
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected a mapping of settings, got {type(data).__name__}")
    astray = [f.name for f in fields(EngineConfig) if f.name in data]
    if astray:
        raise ConfigError(f"{where}: unknown key {astray[0]!r}", hint=f"did you mean engine.{astray[0]}?")
    known_keys(data, ServeConfig, where)
    require(data.get("model"), f"{where}: model", "missing", "for example model: builtin:qwen2-tiny")
    engine = dict(data.get("engine") or {})
    if environ is not None:
        _honour_environment(engine, environ)
    config = ServeConfig(
        model=_model_path(data["model"], base, where),
        engine=build(EngineConfig, engine, f"{where}: engine"),
        requests=_requests(data.get("requests", []), base, where),
        record=build(RecordConfig, data.get("record") or {}, f"{where}: record"),
    )
    _check(config, where)
    return config


def _model_path(model: Any, base: Path, where: str) -> str:
    if not isinstance(model, str):
        raise ConfigError(f"{where}: model: expected a name or a path, got {model!r}")
    if model.startswith("builtin:") or Path(model).is_absolute():
        return model
    return str(base / Path(model).expanduser())


def _requests(data: Any, base: Path, where: str) -> tuple[RequestConfig, ...]:
    """Requests given inline, or in a .jsonl file with one object a line."""
    if isinstance(data, str):
        path = base / data
        where = str(path)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path}: cannot be read: {error}", hint="requests: takes a list or a .jsonl file"
            ) from None
        data, places = [], []
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    data.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise ConfigError(f"{path}:{number}: not JSON: {error.msg}") from None
                places.append(f"{path}:{number}")
    elif isinstance(data, list | tuple):
        places = [f"{where}: requests[{index}]" for index in range(len(data))]
    else:
        raise ConfigError(f"{where}: requests: expected a list or a .jsonl file, got {type(data).__name__}")
    requests = tuple(
        _request(entry, place, index) for index, (entry, place) in enumerate(zip(data, places, strict=True))
    )
    seen: set[str] = set()
    for request in requests:
        if request.id in seen:
            raise ConfigError(
                f"{where}: request id {request.id!r} is used twice",
                hint="ids tell requests apart in the trace",
            )
        seen.add(request.id)
    return requests


def _request(data: Any, where: str, index: int) -> RequestConfig:
    if not isinstance(data, dict):
        raise ConfigError(f"{where}: expected a mapping, got {type(data).__name__}")
    entry = {"id": f"r{index}", **data}
    entry["sampling"] = build(SamplingParams, entry.get("sampling") or {}, f"{where}: sampling")
    request: RequestConfig = build(RequestConfig, entry, where)
    given = [
        name for name in ("prompt", "messages", "prompt_token_ids") if getattr(request, name) is not None
    ]
    if len(given) != 1:
        raise ConfigError(
            f"{where}: expected one of prompt, messages and prompt_token_ids, got {given or 'none'}"
        )
    if not getattr(request, given[0]):
        raise ConfigError(f"{where}: {given[0]} is empty", hint="a request needs at least one token")
    return request


_ENVIRONMENT: dict[str, tuple[str, Callable[[str], bool | int]]] = {
    "FD_DETERMINISTIC_MODE": ("deterministic", lambda text: bool(int(text))),
    "FD_DETERMINISTIC_SPLIT_KV_SIZE": ("split_kv_size", int),
}


def _honour_environment(engine: dict[str, Any], environ: Mapping[str, str]) -> None:
    """FastDeploy's variables fill in what serve.yaml leaves open; a contradiction is an error."""
    for variable, (key, parse) in _ENVIRONMENT.items():
        if variable not in environ:
            continue
        try:
            value = parse(environ[variable])
        except ValueError:
            raise ConfigError(f"{variable}: expected a whole number, got {environ[variable]!r}") from None
        if engine.setdefault(key, value) != value:
            raise ConfigError(
                f"{variable}={environ[variable]} contradicts engine.{key}: {engine[key]}",
                hint=f"unset {variable}, or drop engine.{key}",
            )


def _check(config: ServeConfig, where: str) -> None:
    engine = config.engine
    if engine.tensor_parallel_size != 1:
        raise ConfigError(
            f"{where}: engine.tensor_parallel_size: the built-in engine runs on one rank, "
            f"got {engine.tensor_parallel_size}",
            hint="set it to 1",
        )
    if (
        engine.deterministic
        and engine.enable_chunked_prefill
        and engine.max_num_batched_tokens < engine.split_kv_size
    ):
        raise ConfigError(
            f"{where}: engine.max_num_batched_tokens: {engine.max_num_batched_tokens} is under one split of "
            f"{engine.split_kv_size} tokens, so no prompt could ever start",
            hint="raise max_num_batched_tokens, or lower split_kv_size",
        )
    if engine.device == "cpu" and engine.dtype == "float16":
        raise ConfigError(
            f"{where}: engine.dtype: the CPU has float32 and bfloat16, got float16",
            hint="set it to float32, or engine.device to gpu",
        )
    if engine.device == "gpu" and not engine.deterministic and engine.framework != "torch":
        raise ConfigError(
            f"{where}: engine.deterministic: false uses torch's own kernels on a GPU, "
            f"got engine.framework: {engine.framework}",
            hint="set engine.framework: torch",
        )
    if not config.requests:
        raise ConfigError(f"{where}: requests: none given", hint="add a list of requests, or a .jsonl file")

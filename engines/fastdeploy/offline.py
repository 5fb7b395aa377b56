"""FastDeploy's offline engine, started with detrec's plugin in its workers.

Only what FastDeploy documents is called, and its engine's `add_requests`, which takes our request ids; the
tokens are read from the workers' traces. Tried on the CPU against an engine of the same surface only:
FastDeploy itself needs a GPU.
"""

import contextlib
import difflib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from detrec.config import DEFAULT_SEED, RequestConfig, SamplingParams, ServeConfig
from detrec.engines.base import Request
from detrec.engines.fastdeploy.holes import holes
from detrec.engines.fastdeploy.support import setup_of_section
from detrec.errors import ConfigError, EngineError
from detrec.printable import counted

_HINT = "install FastDeploy for your GPU as its installation guide says: https://paddlepaddle.github.io/FastDeploy"
PLUGIN = "detrec"

_DEFAULTS: dict[str, Any] = {
    "enable_overlap_schedule": False,
    "graph_optimization_config": {"use_cudagraph": False},
}
"""Arguments without which a recording would be poorer; serve.yaml may say otherwise."""


def environment(config: ServeConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that FastDeploy and its workers have to be started with."""
    plugins = [name for name in environ.get("FD_PLUGINS", "").split(",") if name]
    return {
        "FD_PLUGINS": ",".join(dict.fromkeys([*plugins, PLUGIN])),
        "FD_DETERMINISTIC_MODE": str(int(config.engine.deterministic)),
        "FD_DETERMINISTIC_SPLIT_KV_SIZE": str(config.engine.split_kv_size),
    }


def arguments_of(config: ServeConfig, known: Sequence[str]) -> dict[str, Any]:
    """The arguments of FastDeploy's EngineArgs, whose fields are `known`. ConfigError for any other key."""
    given = config.engine.arguments
    for key in given:
        if key not in known or key == "model":
            near = difflib.get_close_matches(key, known, n=1)
            raise ConfigError(
                f"engine: {key!r} is no argument of this FastDeploy's EngineArgs",
                hint=f"did you mean {near[0]}?" if near and key != "model" else "model stands beside engine",
            )
    if given.get("enable_overlap_schedule"):
        raise ConfigError(
            "engine.enable_overlap_schedule: true launches rows before it is known which of them live, which "
            "cannot be recorded",
            hint="set it to false, or leave it out",
        )
    return {key: value for key, value in _DEFAULTS.items() if key in known} | given


def foreseen_holes(config: ServeConfig, environ: Mapping[str, str]) -> list[str]:
    """Where a run of `config` will not be deterministic, as far as can be told before it is started.

    ConfigError for arguments and variables that are not what FastDeploy takes.
    """
    path = Path(config.model) / "config.json"
    try:
        model = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        model = {}
    variables = {**environ, **environment(config, environ)}
    try:
        setup = setup_of_section({**_DEFAULTS, **config.engine.arguments}, model, variables)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"engine: FastDeploy's arguments, the FD_ variables or {path} hold what cannot be: {error}",
            hint="numbers are whole numbers, graph_optimization_config and quantization are mappings",
        ) from error
    return [str(hole) for hole in holes(setup)]


def engine_arguments() -> Any:
    """FastDeploy's EngineArgs. EngineError where FastDeploy is not installed."""
    try:
        with quiet_stdout():
            from fastdeploy.engine.args_utils import EngineArgs
    except ImportError as error:
        raise EngineError(f"engine.name: fastdeploy: cannot be imported: {error}", hint=_HINT) from error
    return EngineArgs


class Offline:
    """FastDeploy's LLM with the model and arguments of `config`. EngineError where it does not start."""

    def __init__(self, config: ServeConfig) -> None:
        known = [field.name for field in fields(engine_arguments())]
        arguments = arguments_of(config, known)
        with quiet_stdout():
            from fastdeploy.engine.sampling_params import SamplingParams as Foreign
            from fastdeploy.entrypoints.llm import LLM

            try:
                self._llm = LLM(model=config.model, **arguments)
            except Exception as error:
                raise EngineError(f"FastDeploy did not start: {type(error).__name__}: {error}") from error
        self._foreign, self._deterministic = Foreign, config.engine.deterministic
        self.ranks = int(arguments.get("tensor_parallel_size", 1))

    @property
    def _engine(self) -> Any:
        return self._llm.llm_engine

    def resolve(self, requests: Sequence[RequestConfig]) -> tuple[Request, ...]:
        """Requests as FastDeploy will run them: tokens, and the seed and max_tokens in effect."""
        return tuple(self._resolve(request) for request in requests)

    def _resolve(self, request: RequestConfig) -> Request:
        sampling = request.sampling
        if sampling.seed is None and self._deterministic:
            sampling = replace(sampling, seed=DEFAULT_SEED)
        try:
            drawn = self._foreign(**self._parameters(request.id, sampling))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"request {request.id}: sampling: FastDeploy says: {error}") from error
        longest = int(self._engine.cfg.model_config.max_model_len)
        tokens = tuple(request.prompt_token_ids or self._tokens(request, longest))
        most = min(sampling.max_tokens, longest - len(tokens))
        if most < 1:
            raise ConfigError(
                f"request {request.id}: its prompt of {counted(len(tokens), 'token')} leaves no room in "
                f"max_model_len {longest}",
                hint="raise engine.max_model_len, or shorten the prompt",
            )
        return Request(request.id, tokens, replace(sampling, seed=int(drawn.seed), max_tokens=most))

    def _tokens(self, request: RequestConfig, longest: int) -> list[int]:
        prompt = {"prompt": request.prompt} if request.prompt is not None else {"messages": request.messages}
        task = {**prompt, "request_id": request.id, "max_tokens": request.sampling.max_tokens}
        with quiet_stdout():
            processed = self._engine.data_processor.process_request_dict(task, longest)
        return [int(token) for token in processed["prompt_token_ids"]]

    def _parameters(self, request: str, sampling: SamplingParams) -> dict[str, Any]:
        known = {field.name for field in fields(self._foreign)}
        values: dict[str, Any] = {}
        for field in fields(sampling):
            value = getattr(sampling, field.name)
            if field.name in known and value not in ((), None):
                values[field.name] = list(value) if isinstance(value, tuple) else value
            elif field.name not in known and value != field.default:
                raise ConfigError(
                    f"request {request}: sampling.{field.name}: this FastDeploy has no such parameter"
                )
        return values

    def ask(self, requests: Sequence[Request]) -> None:
        """Give the engine all requests, in order."""
        for request in requests:
            task = {"request_id": request.id, "prompt_token_ids": list(request.prompt)}
            parameters = self._foreign(**self._parameters(request.id, request.sampling))
            try:
                with quiet_stdout():
                    self._engine.add_requests(task, parameters)
            except Exception as error:
                raise EngineError(
                    f"request {request.id}: FastDeploy refuses it: {type(error).__name__}: {error}"
                ) from error

    def alive(self) -> bool:
        """Whether the workers are running, as far as can be told."""
        process = getattr(self._engine, "worker_proc", None)
        return process is None or process.poll() is None

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of `tokens`, or their numbers where FastDeploy's tokenizer cannot say."""
        tokenizer = getattr(self._engine.data_processor, "tokenizer", None)
        if tokenizer is None or not hasattr(tokenizer, "decode"):
            return " ".join(map(str, tokens))
        return str(tokenizer.decode(list(tokens)))

    def stop(self) -> None:
        """End the engine and its workers."""
        with quiet_stdout():
            self._engine._finalizer()


@contextlib.contextmanager
def started(config: ServeConfig, variables: Mapping[str, str]) -> Iterator[Offline]:
    """FastDeploy, started with `variables` beside its own, and ended whatever happens."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        offline = Offline(config)
        try:
            yield offline
        finally:
            offline.stop()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """What a library prints goes to stderr: stdout is the result's."""
    with contextlib.redirect_stdout(sys.stderr or io.StringIO()):
        yield

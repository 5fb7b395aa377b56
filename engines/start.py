"""The engine that a config names, ready to run."""

from collections.abc import Callable, Mapping, Sequence

from detrec.config import ServeConfig
from detrec.engines.base import Engine, Progress, Request
from detrec.engines.instrument import Instrument
from detrec.errors import ConfigError, EngineError


def start_engine(
    config: ServeConfig,
    *,
    requests: Sequence[Request] | None = None,
    forced: Mapping[str, Sequence[int]] | None = None,
    fault: str = "",
    instruments: Sequence[Instrument] = (),
    notify: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> Engine:
    """Load the model and set the engine up.

    `requests` are those of a trace; None means those of `config`, tokenised now. `forced` gives, by request
    id, the tokens to go on with whatever is sampled. `fault` is `NAME[:key=value,...]`; `notify` is told
    where it first changed a bit, and of what takes long. Raises ConfigError, ModelError or EngineError.
    """
    if config.engine.name == "transformers":
        from detrec.engines.transformers.engine import TransformersEngine

        if fault or instruments:
            raise ConfigError(
                "--fault: faults are injected into the built-in engine only", hint="leave it out"
            )
        return TransformersEngine(config, requests=requests, forced=forced)
    if config.engine.name != "builtin":
        raise EngineError(f"engine.name: {config.engine.name} does not run in this process")
    from detrec.engines.builtin.start import start_builtin

    return start_builtin(config, requests, forced, fault, instruments, notify, progress)

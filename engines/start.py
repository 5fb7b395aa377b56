"""The engine that a config names, ready to run."""

import warnings
from collections.abc import Callable, Mapping, Sequence

from detrec.config import ServeConfig
from detrec.config_engines import registered
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
    if config.engine.name != "builtin":
        if fault:
            raise ConfigError(
                "--fault: faults are injected into the built-in engine only", hint="leave it out"
            )
        if instruments:
            raise EngineError(
                f"engine.name: {config.engine.name}: only the built-in engine can be looked into as it runs"
            )
        return _adapter(config.engine.name)(config, requests=requests, forced=forced)
    from detrec.engines.builtin.start import start_builtin

    return start_builtin(config, requests, forced, fault, instruments, notify, progress)


def _adapter(name: str) -> Callable[..., Engine]:
    """What starts the engine `name`, of detrec's or of another package."""
    if name == "transformers":
        from detrec.engines.transformers.engine import TransformersEngine

        return TransformersEngine
    point = registered().get(name)
    if point is None:
        raise EngineError(f"engine.name: {name} does not run in this process")
    try:
        with warnings.catch_warnings():
            # Paddle's, about a compiler that is not asked for
            warnings.filterwarnings("ignore", message="No ccache found")
            adapter: Callable[..., Engine] = point.load()
    except (ImportError, AttributeError) as error:
        raise EngineError(
            f"engine.name: {name} is registered as {point.value}, which cannot be imported: {error}",
            hint="install what it needs, or mend its entry point",
        ) from None
    return adapter

"""The engine that a config names, ready to run."""

import warnings
from collections.abc import Callable, Mapping, Sequence

from detrec.config import ServeConfig
from detrec.config_engines import registered
from detrec.engines.base import Engine, Request
from detrec.engines.instrument import Instrument
from detrec.errors import ConfigError, EngineError

Progress = Callable[[str, int, int], None]
"""(what, done, total): called as work goes on."""


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
    from detrec.engines.builtin.engine import BuiltinEngine
    from detrec.engines.builtin.model import op_names
    from detrec.engines.builtin.ranks import COMPILING_LIMIT_S, Ranks, Work
    from detrec.engines.builtin.requests import check_engine, check_requests, resolve_requests
    from detrec.engines.builtin.weights import open_checkpoint
    from detrec.engines.faults import arm, check_ranks
    from detrec.kernels.cpu.compiling import compiled_before

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
    checkpoint = open_checkpoint(config.model)
    if requests is None:
        requests = resolve_requests(config, checkpoint)
    else:
        check_engine(config.engine, checkpoint.config)
        check_requests(config.engine, checkpoint.config, requests)
    armed = arm(fault, tuple(op_names(checkpoint.config)), notify) if fault else None
    size = config.engine.tensor_parallel_size
    if armed is not None:
        check_ranks(armed, size)
    if size > 1 and config.engine.device != "cpu":
        _check_devices(size)
    # before the engine: its weights are drawn by kernels
    compiled = compiled_before()
    if not compiled and config.engine.device == "cpu":
        notify("compiling kernels for this machine: about a minute, once")
    ranks = Ranks.start(size) if size > 1 else None
    try:
        if ranks:
            if not compiled:
                ranks.meeting.timeout_s = COMPILING_LIMIT_S
            ranks.tell(Work(config, tuple(requests), forced, fault, tuple(instruments)))
        engine = BuiltinEngine(
            config,
            checkpoint,
            requests,
            forced=forced,
            fault=armed,
            instruments=instruments,
            progress=progress,
            ranks=ranks,
        )
    except BaseException:
        if ranks:
            ranks.close()
        raise
    if engine.device is not None:
        from detrec.kernels.launch import compiled_before as compiled_for_gpu

        if not compiled_for_gpu():
            notify("compiling kernels for this GPU as they are first used: half a minute, once")
    return engine


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


def _check_devices(size: int) -> None:
    """Raise ConfigError where there are fewer GPUs than ranks."""
    from detrec.kernels.cuda import device_count

    found = device_count()
    if found < size:
        raise ConfigError(
            f"engine.tensor_parallel_size: {size} ranks need a GPU each, this machine has {found} to use",
            hint="detrec doctor lists them; reduction: tp_invariant gives the same bits on fewer ranks",
        )

"""The built-in engine, ready to run: in the process that was asked for it, and in each of its ranks."""

from collections.abc import Callable, Mapping, Sequence

from detrec.config import ServeConfig
from detrec.engines.base import Progress, Request
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.builtin.model import op_names
from detrec.engines.builtin.ranks import COMPILING_LIMIT_S, Ranks, Work
from detrec.engines.builtin.requests import check_engine, check_requests, resolve_requests
from detrec.engines.builtin.weights import Checkpoint, open_checkpoint
from detrec.engines.faults import arm, check_ranks
from detrec.engines.faults.base import Fault
from detrec.engines.instrument import Instrument
from detrec.errors import ConfigError
from detrec.kernels.compile_time import tell_if_long
from detrec.kernels.cpu.compiling import compiled_before


def start_builtin(
    config: ServeConfig,
    requests: Sequence[Request] | None,
    forced: Mapping[str, Sequence[int]] | None,
    fault: str,
    instruments: Sequence[Instrument],
    notify: Callable[[str], None],
    progress: Progress | None,
) -> BuiltinEngine:
    """As `start_engine`; several ranks are started too, and end with the engine."""
    checkpoint = open_checkpoint(config.model)
    if requests is None:
        requests = resolve_requests(config, checkpoint)
    else:
        check_engine(config.engine, checkpoint.config)
        check_requests(config.engine, checkpoint.config, requests)
    work = Work(config, tuple(requests), forced, fault, tuple(instruments))
    armed, size = _armed(work, checkpoint, notify), config.engine.tensor_parallel_size
    if armed is not None:
        check_ranks(armed, size)
    # before the engine: its weights are drawn by kernels
    compiled = compiled_before()
    if not compiled and config.engine.device == "cpu":
        notify("compiling kernels for this machine: about a minute, once")
    elif config.engine.device == "cpu":
        tell_if_long(lambda: notify("compiling kernels that this machine has not had yet, once"))
    if size == 1:
        engine = _engine(work, checkpoint, armed, progress=progress)
    else:
        if config.engine.device != "cpu":
            _check_devices(size)
        ranks = Ranks.start(size)
        try:
            if not compiled:
                ranks.meeting.timeout_s = COMPILING_LIMIT_S
            ranks.tell(work)
            engine = _engine(work, checkpoint, armed, ranks, progress)
        except BaseException:
            ranks.close()
            raise
    if engine.device is not None:
        from detrec.kernels.launch import compiled_before as compiled_for_gpu

        if not compiled_for_gpu():
            notify("compiling kernels for this GPU as they are first used: half a minute, once")
    return engine


def engine_of(ranks: Ranks, work: Work) -> BuiltinEngine:
    """The engine of a rank above 0, which was told `work`."""
    checkpoint = open_checkpoint(work.config.model)
    return _engine(work, checkpoint, _armed(work, checkpoint, lambda text: None), ranks)


def _armed(work: Work, checkpoint: Checkpoint, notify: Callable[[str], None]) -> Fault | None:
    return arm(work.fault, tuple(op_names(checkpoint.config)), notify) if work.fault else None


def _engine(
    work: Work,
    checkpoint: Checkpoint,
    fault: Fault | None,
    ranks: Ranks | None = None,
    progress: Progress | None = None,
) -> BuiltinEngine:
    return BuiltinEngine(
        *(work.config, checkpoint, work.requests),
        forced=work.forced,
        fault=fault,
        instruments=work.instruments,
        progress=progress,
        ranks=ranks,
    )


def _check_devices(size: int) -> None:
    """Raise ConfigError where there are fewer GPUs than ranks."""
    from detrec.kernels.cuda import device_count

    found = device_count()
    if found < size:
        raise ConfigError(
            f"engine.tensor_parallel_size: {size} ranks need a GPU each, this machine has {found} to use",
            hint="detrec doctor lists them; reduction: tp_invariant gives the same bits on fewer ranks",
        )

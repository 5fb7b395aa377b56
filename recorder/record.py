"""`detrec record`: run an engine by its own scheduler and keep the trace."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from detrec.config import ServeConfig
from detrec.engines.base import Engine, Request, Scheduler
from detrec.engines.start import Progress, start_engine
from detrec.errors import ConfigError, ModelError
from detrec.recorder.levels import recorded_ops
from detrec.recorder.manifest import environment_manifest
from detrec.recorder.probe import TraceProbe
from detrec.recorder.writer import TraceWriter

if TYPE_CHECKING:
    from detrec.recorder.device_probe import DeviceProbe


@dataclass(frozen=True, slots=True)
class Recording:
    """What a recording left behind.

    `outputs` are the generated token ids by request, `texts` the same as text; `seconds` is the steps' time.
    """

    path: str
    steps: int
    rows: int
    ops: int
    requests: tuple[Request, ...]
    outputs: dict[str, list[int]]
    texts: dict[str, str]
    seconds: float


def record(
    config: ServeConfig,
    output: str,
    *,
    overwrite: bool = False,
    fault: str = "",
    notify: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> Recording:
    """Run the requests of `config` and write the trace to `output`, a path or an fsspec URL.

    An exception, Ctrl-C included, leaves a trace that can be read up to its last step and says `failed`.
    """
    TraceWriter.check_free(output, overwrite=overwrite)
    if config.engine.name == "fastdeploy":
        from detrec.recorder.fastdeploy_run import record_on_fastdeploy

        if fault:
            raise ConfigError(
                "--fault: faults are injected into the built-in engine only", hint="leave it out"
            )
        return record_on_fastdeploy(config, output, overwrite=overwrite, notify=notify, progress=progress)
    engine = start_engine(config, fault=fault, notify=notify, progress=progress)
    return run_recorded(
        engine, engine.own_scheduler(), config, output, overwrite=overwrite, progress=progress
    )


def run_recorded(
    engine: Engine,
    scheduler: Scheduler,
    config: ServeConfig,
    output: str,
    *,
    ops: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Recording:
    """Run `engine` by `scheduler` and write the trace to `output`; `ops` None keeps the level's ops."""
    names = tuple(ops) if ops is not None else recorded_ops(engine.op_names, config.record.level)
    outputs: dict[str, list[int]] = {request.id: [] for request in engine.requests}
    expected = sum(request.sampling.max_tokens for request in engine.requests)
    steps = rows = 0
    seconds = 0.0
    with TraceWriter(
        output, manifest=manifest(config, engine), requests=engine.requests, ops=names, overwrite=overwrite
    ) as writer:
        probe = _probe(writer, names, engine)
        begin = time.perf_counter()
        try:
            for step, samples in engine.run(scheduler, probe, frozenset(names)):
                steps, rows = steps + 1, rows + step.rows
                for sample in samples:
                    outputs[sample.request].append(sample.taken)
                if progress:
                    progress("run", sum(map(len, outputs.values())), expected)
        finally:
            probe.finish()
        seconds = time.perf_counter() - begin
    texts = {request: _text(engine, tokens) for request, tokens in outputs.items()}
    return Recording(output, steps, rows, len(names), engine.requests, outputs, texts, seconds)


def _text(engine: Engine, tokens: list[int]) -> str:
    """What was generated, as token ids where the model has no tokenizer: prompts were ids then too."""
    try:
        return engine.decode(tokens)
    except ModelError:
        return " ".join(map(str, tokens))


def _probe(writer: TraceWriter, names: Sequence[str], engine: Engine) -> "TraceProbe | DeviceProbe":
    """What fingerprints where the engine's activations are."""
    if engine.device is None:
        return TraceProbe(writer, names)
    from detrec.recorder.device_probe import DeviceProbe

    return DeviceProbe(writer, names, engine.device)


def manifest(config: ServeConfig, engine: Engine) -> dict[str, Any]:
    """Everything that can change bits: configuration, model, environment."""
    settings = config.to_json()
    # requests are kept as they were run, tokenised, in requests/; where the trace went changes no bit
    del settings["requests"], settings["record"]["output"]
    return {"config": settings, "engine": engine.manifest(), "environment": environment_manifest()}

"""`detrec record`: run an engine by its own scheduler and keep the trace."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from detrec.config import ServeConfig
from detrec.engines.base import Engine, Probe, Request, Scheduler
from detrec.engines.start import Progress, start_engine
from detrec.errors import ConfigError, ModelError
from detrec.kernels.projections import PARTS
from detrec.recorder.levels import recorded_ops
from detrec.recorder.manifest import environment_manifest
from detrec.recorder.probe import TraceProbe
from detrec.recorder.rank_writer import RankWriter
from detrec.recorder.steps import StepWriter
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
    with closing(engine):
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
    writer = TraceWriter(
        output,
        manifest=manifest(config, engine),
        requests=engine.requests,
        ops=names,
        ranks=engine.rank.size,
        kinds=engine.rank.kinds(names),
        sketch_parts=PARTS if config.record.sketch else 0,
        overwrite=overwrite,
        alive=engine.rank.check,
    )
    with writer, _ending_ranks(engine), _probe(writer, names, engine) as probe:
        others = RankRecorder(output, writer.uuid) if engine.rank.size > 1 else None
        begin = time.perf_counter()
        for step, samples in engine.run(scheduler, probe, frozenset(names), others):
            steps, rows = steps + 1, rows + step.rows
            for sample in samples:
                outputs[sample.request].append(sample.taken)
            if progress:
                progress("run", sum(map(len, outputs.values())), expected)
        seconds = time.perf_counter() - begin
    texts = {request: _text(engine, tokens) for request, tokens in outputs.items()}
    return Recording(output, steps, rows, len(names), engine.requests, outputs, texts, seconds)


def _text(engine: Engine, tokens: list[int]) -> str:
    """What was generated, as token ids where the model has no tokenizer: prompts were ids then too."""
    try:
        return engine.decode(tokens)
    except ModelError:
        return " ".join(map(str, tokens))


@dataclass(frozen=True, slots=True)
class RankRecorder:
    """What a rank above 0 is told to do with the trace `uuid` at `path`: a RankProbe."""

    path: str
    uuid: str

    @contextmanager
    def __call__(self, engine: Engine) -> Iterator[Probe]:
        """Its Probe, which closes its part of the trace."""
        writer = RankWriter(self.path, engine.rank.index, uuid=self.uuid)
        with writer, _probe(writer, writer.ops, engine) as probe:
            yield probe


@contextmanager
def _probe(writer: StepWriter, names: Sequence[str], engine: Engine) -> "Iterator[TraceProbe | DeviceProbe]":
    """What fingerprints where the engine's activations are; every step that is over is written at the end."""
    probe = open_probe(writer, names, engine)
    try:
        yield probe
    finally:
        probe.finish()


def open_probe(writer: StepWriter, names: Sequence[str], engine: Engine) -> "TraceProbe | DeviceProbe":
    """What fingerprints the ops in `names` where the engine's activations are, for `writer`."""
    if engine.device is None:
        # between two ops that are reported any number may run that are not
        lasting = engine.lasting and len(names) == len(engine.op_names)
        return TraceProbe(writer, names, shares=engine.rank.shares, lasting=lasting)
    from detrec.recorder.device_probe import DeviceProbe

    return DeviceProbe(writer, names, engine.device, shares=engine.rank.shares)


@contextmanager
def _ending_ranks(engine: Engine) -> Iterator[None]:
    """A run that breaks off: other ranks write what they have before it is said how far the trace goes."""
    try:
        yield
    except BaseException:
        if engine.rank.size > 1:
            engine.close()
        raise


def manifest(config: ServeConfig, engine: Engine) -> dict[str, Any]:
    """Everything that can change bits: configuration, model, environment."""
    settings = config.to_json()
    # requests are kept as they were run, tokenised, in requests/; where the trace went changes no bit
    del settings["requests"], settings["record"]["output"]
    return {"config": settings, "engine": engine.manifest(), "environment": environment_manifest()}

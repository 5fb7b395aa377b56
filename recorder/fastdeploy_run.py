"""`detrec record` and `replay` on FastDeploy: start it, wait, collect its workers' traces."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from detrec.config import ServeConfig
from detrec.engines.base import Request
from detrec.engines.fastdeploy.offline import Offline, environment, started
from detrec.engines.start import Progress
from detrec.errors import ConfigError, DetrecError, EngineError
from detrec.recorder.fastdeploy import (
    VARIABLE,
    Header,
    Order,
    attach_tasks,
    header_of,
    recorded_in,
    tasks_in,
    trace_of,
    write_order,
    write_requests,
)
from detrec.recorder.manifest import environment_manifest
from detrec.recorder.merge import merge
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import Recording
from detrec.recorder.writer import TraceWriter

_LOOK = 0.05
_SILENT = (
    "FastDeploy runs its own model runner: it did not load detrec's plugin, and does not say why",
    "in its workers' environment `python -c 'from detrec.recorder.fastdeploy import model_runner; "
    "model_runner()'` shows the error",
)


def record_on_fastdeploy(
    config: ServeConfig,
    output: str,
    *,
    overwrite: bool = False,
    notify: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> Recording:
    """Run the requests of `config` on FastDeploy and write the trace to `output`.

    Raises ConfigError or EngineError where FastDeploy cannot be had, does not start, or cannot be recorded as
    it is configured. What was recorded of a run that breaks off is kept, as a failed trace.
    """
    TraceWriter.check_free(output, overwrite=overwrite)

    def ask(offline: Offline, order: Path) -> tuple[Request, ...]:
        requests = offline.resolve(config.requests)
        write_requests(order, requests)
        offline.ask(requests)
        return requests

    return _run(config, Order(config.record.level), ask, output, overwrite, notify, progress)


def replay_on_fastdeploy(
    config: ServeConfig,
    recorded: TraceReader,
    output: str,
    *,
    mode: str = "schedule",
    overwrite: bool = False,
    notify: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> Recording:
    """Give FastDeploy's workers the recorded tasks at the recorded steps, tokens forced.

    `mode` free asks FastDeploy for the recorded requests and forces nothing. Raises TraceError where
    `recorded` has no tasks of FastDeploy's, ConfigError for another mode, and else as `record_on_fastdeploy`.
    """
    if mode == "free":

        def ask(offline: Offline, path: Path) -> tuple[Request, ...]:
            write_requests(path, recorded.requests)
            offline.ask(recorded.requests)
            return recorded.requests

        free = Order(config.record.level, ops=recorded.ops)
        return _run(config, free, ask, output, overwrite, notify, progress)
    if mode != "schedule":
        raise ConfigError(
            f"--mode {mode}: FastDeploy's scheduler cannot be left to decide while tokens are forced",
            hint="--mode schedule forces both, --mode free nothing",
        )
    recorded_in(recorded)
    order = Order(config.record.level, ops=recorded.ops, replay=str(Path(recorded.path).absolute()))
    return _run(config, order, lambda offline, path: recorded.requests, output, overwrite, notify, progress)


def _run(
    config: ServeConfig,
    order: Order,
    ask: Callable[[Offline, Path], tuple[Request, ...]],
    output: str,
    overwrite: bool,
    notify: Callable[[str], None],
    progress: Progress | None,
) -> Recording:
    with tempfile.TemporaryDirectory(prefix="detrec-") as folder:
        path = Path(folder) / "order.json"
        write_order(path, order)
        begin = time.perf_counter()
        with _engine(config, path) as offline:
            headers = _active(path, offline.ranks)
            for hole in headers[0].manifest["holes"] if headers[0].manifest else ():
                notify(f"FastDeploy is not deterministic here: {hole}")
            try:
                requests = ask(offline, path)
                begin = time.perf_counter()
                _wait(path, offline, requests, progress)
            except BaseException as error:
                _collect(config, path, offline.ranks, output, overwrite, reason=_said(error))
                raise
            seconds = time.perf_counter() - begin
            trace = _collect(config, path, offline.ranks, output, overwrite)
            assert trace is not None, "complete workers have traces"
            taken = trace.taken_tokens()
            texts = {name: offline.decode(tokens) for name, tokens in taken.items()}
    return Recording(output, trace.n_steps, trace.n_rows, len(trace.ops), requests, taken, texts, seconds)


@contextmanager
def _engine(config: ServeConfig, order: Path) -> Iterator[Offline]:
    """FastDeploy; where it does not start because a worker refused, its reason is the error."""
    variables = environment(config, os.environ) | {VARIABLE: str(order)}
    try:
        with started(config, variables) as offline:
            yield offline
    except EngineError as error:
        refused = header_of(order, 0)
        if refused is not None and refused.status == "refused":
            raise EngineError(
                f"FastDeploy cannot be recorded as it is configured: {refused.reason}",
                hint="change the arguments under engine, or the model",
            ) from error
        raise


def _active(order: Path, ranks: int) -> list[Header]:
    """Every worker's header. EngineError where the plugin is not in place."""
    headers = [header_of(order, rank) for rank in range(ranks)]
    if any(header is None for header in headers):
        raise EngineError(_SILENT[0], hint=_SILENT[1])
    return [header for header in headers if header is not None]


def _wait(order: Path, offline: Offline, requests: Sequence[Request], progress: Progress | None) -> None:
    """Until every worker has closed its trace. EngineError where one fails or dies."""
    expected = sum(request.sampling.max_tokens for request in requests)
    while True:
        headers = _active(order, offline.ranks)
        for rank, header in enumerate(headers):
            if header.status == "failed":
                raise EngineError(f"rank {rank} could not be recorded: {header.reason}")
        if all(header.status == "complete" for header in headers):
            return
        if not offline.alive():
            raise EngineError(
                "FastDeploy's workers died", hint="their logs are in the folder log, workerlog.0 first"
            )
        if progress:
            progress("run", 0, expected)
        time.sleep(_LOOK)


def _collect(
    config: ServeConfig, order: Path, ranks: int, output: str, overwrite: bool, reason: str = ""
) -> TraceReader | None:
    """The workers' traces as one; None where a failed run left none."""
    paths = [trace_of(order, rank) for rank in range(ranks)]
    if reason and not all(path.exists() for path in paths):
        return None
    header = header_of(order, 0)
    assert header is not None
    try:
        return merge(
            paths,
            output,
            fastdeploy_manifest(config, dict(header.manifest or {})),
            overwrite=overwrite,
            reason=reason,
            finishing=_with_tasks,
        )
    except DetrecError:
        if not reason:
            raise
        # what broke the run off is what there is to tell
        return None


def _with_tasks(writer: TraceWriter, first: TraceReader) -> None:
    tasks = tasks_in(first)
    if tasks is not None:
        attach_tasks(writer, tasks)


def fastdeploy_manifest(config: ServeConfig, worker: dict[str, Any]) -> dict[str, Any]:
    """Everything that can change bits: configuration, the worker's view of it, environment."""
    settings = replace(config, requests=()).to_json()
    del settings["requests"], settings["record"]["output"]
    with_plugin = environment(config, {})
    return {
        "config": settings,
        "engine": worker,
        "environment": environment_manifest({**os.environ, **with_plugin}),
    }


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")

"""`detrec record` and `replay` on FastDeploy: start it, wait, collect its workers' traces."""

import hashlib
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
from detrec.engines.fastdeploy.names import kinds_of
from detrec.engines.fastdeploy.offline import Offline, environment, started
from detrec.engines.start import Progress
from detrec.errors import ConfigError, DetrecError, EngineError, TraceError
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
_DEAD = ("FastDeploy's workers died: their logs are in the folder log, workerlog.0 first",)
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

    order = Order(config.record.level, sketch=config.record.sketch)
    return _run(config, order, ask, output, overwrite, notify, progress)


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

        free = Order(config.record.level, ops=recorded.ops, sketch=config.record.sketch)
        return _run(config, free, ask, output, overwrite, notify, progress)
    if mode != "schedule":
        raise ConfigError(
            f"--mode {mode}: FastDeploy's scheduler cannot be left to decide while tokens are forced",
            hint="--mode schedule forces both, --mode free nothing",
        )
    recorded_in(recorded)
    order = Order(
        config.record.level,
        ops=recorded.ops,
        replay=str(Path(recorded.path).absolute()),
        sketch=config.record.sketch,
    )
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
            _warn(_active(path, offline)[0], notify)
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
    """FastDeploy, its workers told of `order`."""
    variables = environment(config, os.environ) | {VARIABLE: str(order)}
    with started(config, variables) as offline:
        yield offline


def _active(order: Path, offline: Offline) -> list[Header]:
    """Every worker's header. EngineError where the plugin is not in place: refused, or never loaded."""
    found = [header_of(order, rank) for rank in range(offline.ranks)]
    headers = [header for header in found if header is not None]
    for header in headers:
        if header.status == "refused":
            raise EngineError(
                f"FastDeploy cannot be recorded as it is configured: {header.reason}",
                hint="change the arguments under engine, or the model",
            )
    if len(headers) < offline.ranks:
        raise EngineError(*_DEAD) if not offline.alive() else EngineError(_SILENT[0], hint=_SILENT[1])
    return headers


def _warn(header: Header, notify: Callable[[str], None]) -> None:
    manifest = header.manifest or {}
    for hole in manifest.get("holes", ()):
        notify(f"FastDeploy is not deterministic here: {hole}")
    if manifest.get("layers") == "hidden":
        notify("its graphs hide the layers: only logits and tokens are recorded")


def _wait(order: Path, offline: Offline, requests: Sequence[Request], progress: Progress | None) -> None:
    """Until every worker has closed its trace. EngineError where one fails or dies."""
    expected = sum(request.sampling.max_tokens for request in requests)
    due = time.monotonic()
    while True:
        # before it is asked how far they are: who is done may end
        alive = offline.alive()
        headers = _active(order, offline)
        for rank, header in enumerate(headers):
            if header.status == "failed":
                raise EngineError(f"rank {rank} could not be recorded: {header.reason}")
        if all(header.status == "complete" for header in headers):
            return
        if not alive:
            raise EngineError(*_DEAD)
        if progress and time.monotonic() >= due:
            progress("run", _drawn(order), expected)
            due = time.monotonic() + 1
        time.sleep(_LOOK)


def _drawn(order: Path) -> int:
    """How many tokens rank 0 has recorded so far."""
    try:
        return TraceReader(trace_of(order, 0)).n_samples
    except TraceError:
        # not begun
        return 0


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
            kinds=kinds_of(TraceReader(paths[0]).ops, ranks),
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
        "engine": {**worker, "model_digest": _model_digest(Path(config.model))},
        "environment": environment_manifest({**os.environ, **with_plugin}),
    }


def _model_digest(folder: Path) -> str:
    """Of config.json and the names and sizes of all files, not of the weights: those may be a hundred GB."""
    if not folder.is_dir():
        return ""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        if file.name == "config.json":
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")

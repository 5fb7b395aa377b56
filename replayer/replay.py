"""`detrec replay`: run a trace again and compare.

`schedule` forces the recorded steps and tokens, `tokens` forces the tokens and lets the scheduler decide,
`free` forces nothing.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from detrec.config import FOREIGN, EngineConfig, ServeConfig, apply_overrides, serve_config
from detrec.engines.start import Progress, start_engine
from detrec.errors import ConfigError, TraceIncomplete
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import Recording, run_recorded
from detrec.recorder.writer import TraceWriter
from detrec.replayer.compare import Comparison, compare
from detrec.replayer.diagnosis import Diagnosis
from detrec.replayer.explain import explain_replay, explain_traces
from detrec.replayer.forced import ForcedSchedule
from detrec.replayer.tolerance import Tolerance, compare_sketches, require_sketches

MODES = ("schedule", "tokens", "free")


@dataclass(frozen=True, slots=True)
class Replay:
    """`path` is where the replay's own trace was kept, empty when it was not.

    `diagnosis` is None where nothing diverged, or where it was not asked for or could not be made;
    `tolerance` where there are no sketches.
    """

    comparison: Comparison
    recording: Recording
    path: str
    seconds: float
    diagnosis: Diagnosis | None = None
    tolerance: Tolerance | None = None


def replay(
    trace: str,
    output: str | None = None,
    *,
    overrides: Sequence[str] = (),
    mode: str = "schedule",
    fault: str = "",
    diagnose: bool = False,
    keep_tensors: str | None = None,
    by_sketch: bool = False,
    until: int | None = None,
    overwrite: bool = False,
    notify: Callable[[str], None] = lambda text: None,
    progress: Progress | None = None,
) -> Replay:
    """Run `trace` again with `overrides` to its config and compare with what was recorded.

    The second run is a trace of its own, kept at `output` or thrown away. A trace that was never closed
    is replayed up to its last committed step. `diagnose`: where the runs diverge, find out why, and leave
    the tensors of the first divergence in the folder `keep_tensors`, if one is named. `by_sketch`: both
    must have sketches. `until`: up to the end of that step, and compared so far. Raises ReplayError where the
    schedule cannot be followed, TraceIncomplete where no step was committed.
    """
    begin = time.perf_counter()
    if mode not in MODES:
        raise ConfigError(f"--mode {mode}: unknown mode", hint=f"modes: {', '.join(MODES)}")
    recorded = TraceReader(trace, steps=None if until is None else until + 1)
    _require_steps(recorded)
    if by_sketch:
        require_sketches(recorded)
    config = replayed_config(recorded, overrides)
    if until is not None:
        _check_until(until, recorded, mode, config.engine.name)
    if by_sketch and not config.record.sketch:
        raise ConfigError(
            "--by sketch: the replay keeps none, record.sketch is false", hint="leave out --set record.sketch"
        )
    if output is not None:
        TraceWriter.check_free(output, overwrite=overwrite)
    if keep_tensors is not None and not diagnose:
        raise ConfigError(
            "--keep-tensors: nothing is kept without a diagnosis", hint="leave out --no-diagnose"
        )
    if keep_tensors is not None and Path(keep_tensors).exists() and not Path(keep_tensors).is_dir():
        raise ConfigError(f"--keep-tensors {keep_tensors}: is a file", hint="name a folder")
    with tempfile.TemporaryDirectory(prefix="detrec-") as scratch:
        path = output or str(Path(scratch) / "replayed.zarr")
        recording = _run(config, recorded, path, mode, fault, overwrite, notify, _drawn(recorded, progress))
        again = TraceReader(path)
        comparison = compare(recorded, again, progress=progress)
        tolerance = (
            compare_sketches(recorded, again) if again.has_sketches and recorded.has_sketches else None
        )
        diagnosis = None
        if diagnose and {config.engine.name, recorded.manifest["config"]["engine"]["name"]} & {*FOREIGN}:
            # only the built-in engine can be looked into by running it again
            diagnosis = explain_traces(recorded, again, comparison)
        elif diagnose:
            diagnosis = explain_replay(
                recorded,
                again,
                comparison,
                overrides=overrides,
                mode=mode,
                fault=fault,
                keep_tensors=keep_tensors,
                notify=notify,
                progress=progress,
            )
    return Replay(comparison, recording, output or "", time.perf_counter() - begin, diagnosis, tolerance)


def _drawn(recorded: TraceReader, progress: Progress | None) -> Progress | None:
    """Progress of a run by the tokens that the recorded one drew, which may have stopped early."""
    if progress is None:
        return None
    told = progress

    def drawn(what: str, done: int, total: int) -> None:
        told(what, done, max(recorded.n_samples, done, 1) if what == "run" else total)

    return drawn


def _check_until(until: int, recorded: TraceReader, mode: str, engine: str) -> None:
    """ConfigError where that step is not there, or nothing can stop at its end."""
    if not 0 <= until < recorded.all_steps:
        last = recorded.all_steps - 1
        raise ConfigError(f"--until {until}: {recorded.path} has steps 0 to {last}", hint="name one of them")
    if mode == "free" or engine == "fastdeploy":
        what = "--mode free" if mode == "free" else "engine.name fastdeploy"
        raise ConfigError(
            f"--until {until}: with {what} no step need be the recorded one",
            hint="leave --until out: the whole run is replayed",
        )


def _run(
    config: ServeConfig,
    recorded: TraceReader,
    path: str,
    mode: str,
    fault: str,
    overwrite: bool,
    notify: Callable[[str], None],
    progress: Progress | None,
) -> Recording:
    """The second run, as a trace at `path`."""
    if config.engine.name == "fastdeploy":
        from detrec.recorder.fastdeploy_run import replay_on_fastdeploy

        if fault:
            raise ConfigError(
                "--fault: faults are injected into the built-in engine only", hint="leave it out"
            )
        return replay_on_fastdeploy(
            config, recorded, path, mode=mode, overwrite=overwrite, notify=notify, progress=progress
        )
    engine = start_engine(
        config,
        requests=recorded.requests,
        forced=None if mode == "free" else recorded.taken_tokens(),
        fault=fault,
        notify=notify,
        progress=progress,
    )
    scheduler = engine.follow(ForcedSchedule(recorded)) if mode == "schedule" else engine.own_scheduler()
    known = set(recorded.ops)
    ops = [name for name in engine.op_names if name in known]
    with closing(engine):
        return run_recorded(engine, scheduler, config, path, ops=ops, overwrite=overwrite, progress=progress)


def _require_steps(recorded: TraceReader) -> None:
    if not recorded.n_steps:
        state = f"{recorded.status}: {recorded.reason}" if recorded.reason else recorded.status
        raise TraceIncomplete(
            f"{recorded.path}: no step was committed, so there is nothing to replay ({state})",
            hint="record it again",
        )


def replayed_config(recorded: TraceReader, overrides: Sequence[str]) -> ServeConfig:
    """The recorded config with `overrides`; requests are the trace's own."""
    if any(text.startswith("requests") for text in overrides):
        raise ConfigError(
            "--set requests: a replay runs the trace's own requests", hint="record the others instead"
        )
    data = dict(recorded.manifest["config"])
    data["engine"] = _engine_section(data["engine"], overrides)
    # the trace keeps the requests as they were run, apart from the config
    data["requests"] = [{"id": r.id, "prompt_token_ids": list(r.prompt)} for r in recorded.requests]
    config = serve_config(
        apply_overrides(data, overrides), environ=os.environ, where=f"{recorded.path}: config"
    )
    return replace(config, requests=())


def _engine_section(recorded: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The recorded section; where `overrides` name another engine, what that one has of it."""
    section = apply_overrides({"engine": dict(recorded)}, overrides)["engine"]
    # what is no section is refused by who reads it
    name = section.get("name") if isinstance(section, dict) else recorded["name"]
    # FastDeploy's argument names are the built-in engine's
    if name in (recorded["name"], "fastdeploy"):
        return recorded
    own = {field.name for field in fields(EngineConfig) if not field.metadata.get("derived")}
    own = set(FOREIGN.get(str(name), own))
    kept = {key: value for key, value in recorded.items() if key in own and value is not None}
    # who recorded on transformers has torch, and need not have another framework
    return {"framework": "torch", **kept} if recorded["name"] == "transformers" else kept

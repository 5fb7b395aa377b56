"""`detrec replay`: run a trace again and compare.

`schedule` forces the recorded steps and tokens, `tokens` forces the tokens and lets the scheduler decide,
`free` forces nothing.
"""

import difflib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from detrec.config import EngineConfig, ServeConfig, apply_overrides, serve_config
from detrec.config_engines import own_keys
from detrec.engines.start import Progress, start_engine
from detrec.errors import ConfigError, TraceIncomplete
from detrec.recorder.reader import TraceReader
from detrec.recorder.record import Recording, run_recorded
from detrec.recorder.store import open_store
from detrec.recorder.writer import TraceWriter
from detrec.replayer.compare import Comparison, compare
from detrec.replayer.diagnose import Made
from detrec.replayer.diagnosis import Diagnosis
from detrec.replayer.explain import explain_replay, explain_traces
from detrec.replayer.forced import ForcedSchedule
from detrec.replayer.keep import check_folder
from detrec.replayer.tolerance import Tolerance, compare_sketches, needs_cause, require_sketches
from detrec.replayer.trace import engines_of

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
    must have sketches, and only runs that are apart by them are diagnosed. `until`: up to the end of that
    step, and compared so far. Raises ReplayError where the schedule cannot be followed, TraceIncomplete
    where no step was committed.
    """
    begin = time.perf_counter()
    recorded, config = _checked(trace, overrides, mode, until, by_sketch=by_sketch)
    if output is not None:
        _check_output(output, trace, overwrite=overwrite)
    _check_folder(keep_tensors, diagnose=diagnose)
    with tempfile.TemporaryDirectory(prefix="detrec-") as scratch:
        path = output or str(Path(scratch) / "replayed.zarr")
        recording = _run(config, recorded, path, mode, fault, overwrite, notify, _drawn(recorded, progress))
        again = TraceReader(path)
        comparison = compare(recorded, again, progress=progress)
        sketched = again.has_sketches and recorded.has_sketches
        tolerance = compare_sketches(recorded, again) if sketched else None
        diagnosis = None
        if diagnose and needs_cause(tolerance, by_sketch=by_sketch):
            made = Made(overrides, mode, fault, keep_tensors, notify, progress)
            diagnosis = _why(config, recorded, again, comparison, made)
    return Replay(comparison, recording, output or "", time.perf_counter() - begin, diagnosis, tolerance)


def _checked(
    trace: str, overrides: Sequence[str], mode: str, until: int | None, *, by_sketch: bool
) -> tuple[TraceReader, ServeConfig]:
    """The trace, and what to replay it by."""
    check_mode(mode)
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
    return recorded, config


def _check_output(output: str, trace: str, *, overwrite: bool) -> None:
    if open_store(output).place == open_store(trace).place:
        raise ConfigError(
            f"-o {output}: is the recording itself, which the replay needs", hint="name another place"
        )
    TraceWriter.check_free(output, overwrite=overwrite)


def _check_folder(keep_tensors: str | None, *, diagnose: bool) -> None:
    if keep_tensors is not None and not diagnose:
        raise ConfigError(
            "--keep-tensors: nothing is kept without a diagnosis", hint="leave out --no-diagnose"
        )
    if keep_tensors is not None:
        check_folder(keep_tensors)


def _why(
    config: ServeConfig, recorded: TraceReader, again: TraceReader, comparison: Comparison, made: Made
) -> Diagnosis | None:
    """The diagnosis; only the built-in engine can be looked into by running it again."""
    if {config.engine.name} | engines_of(recorded) != {"builtin"}:
        return explain_traces(recorded, again, comparison)
    return explain_replay(recorded, again, comparison, made)


def check_mode(mode: str) -> None:
    """Raise ConfigError unless it is one of MODES."""
    if mode not in MODES:
        near = difflib.get_close_matches(mode, MODES, n=1)
        raise ConfigError(
            f"--mode {mode}: expected one of {', '.join(MODES)}",
            hint=f"did you mean {near[0]}?" if near else "detrec replay --help says what each forces",
        )


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
    for text in overrides:
        _refuse_fixed(text.partition("=")[0])
    data = dict(recorded.manifest["config"])
    data["engine"] = _engine_section(data["engine"], overrides)
    # the trace keeps the requests as they were run, apart from the config
    data["requests"] = [{"id": r.id, "prompt_token_ids": list(r.prompt)} for r in recorded.requests]
    config = serve_config(
        apply_overrides(data, overrides), environ=os.environ, where=f"{recorded.path}: config"
    )
    return replace(config, requests=())


_FIXED = {
    "requests": ("a replay runs the trace's own requests", "record the others instead"),
    "record.output": ("a replay's trace goes where -o says", "name the place with -o"),
    "record.level": ("a replay keeps the ops that the recording has", "record again with --level"),
}


def _refuse_fixed(key: str) -> None:
    """Refuse what a replay could only ignore."""
    for fixed, (why, hint) in _FIXED.items():
        if f"{key}.".startswith(f"{fixed}.") or f"{fixed}.".startswith(f"{key}."):
            raise ConfigError(f"--set {key}: {why}", hint=hint)


def _engine_section(recorded: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The recorded section; where `overrides` name another engine, what that one has of it."""
    section = apply_overrides({"engine": dict(recorded)}, overrides)["engine"]
    # what is no section is refused by who reads it
    name = section.get("name") if isinstance(section, dict) else recorded["name"]
    # FastDeploy's argument names are the built-in engine's
    if name in (recorded["name"], "fastdeploy"):
        return recorded
    own = {field.name for field in fields(EngineConfig) if not field.metadata.get("derived")}
    own = set(own_keys(str(name)) or own)
    kept = {key: value for key, value in recorded.items() if key in own and value is not None}
    # who recorded on transformers has torch, and need not have another framework
    return {"framework": "torch", **kept} if recorded["name"] == "transformers" else kept

"""A run again up to one step, to look at one op of it and to run that op by itself afterwards."""

from dataclasses import dataclass

from detrec.config import ServeConfig
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.start import Progress, start_engine
from detrec.recorder.reader import TraceReader
from detrec.replayer.capture import Capture, Moment, Writes
from detrec.replayer.experiments import most_rows
from detrec.replayer.forced import ForcedSchedule


@dataclass(frozen=True, slots=True)
class Side:
    """One run up to a step: what was captured there, by op, and the shapes of the model's tensors.

    `writes`: fingerprints of the KV that the layer wrote until then, by (request, position).
    """

    moments: dict[str, Moment]
    writes: dict[tuple[str, int], list[int]]
    shapes: dict[str, tuple[int, ...]]


def rerun(
    config: ServeConfig,
    recorded: TraceReader,
    capture: Capture,
    writes: Writes,
    step: int,
    mode: str,
    fault: str,
    progress: Progress | None,
) -> Side:
    """Run the requests of `recorded` by `config`, `mode` and `fault` to the end of `step`, and no further.

    The captured ops can be called then, on any rows that an experiment needs: no next step has begun, so a
    fault takes `step` for the present one. Raises as `replay` does.
    """
    engine = start_engine(
        config,
        requests=recorded.requests,
        forced=None if mode == "free" else recorded.taken_tokens(),
        fault=fault,
        instruments=(capture, writes),
        progress=progress,
    )
    assert isinstance(engine, BuiltinEngine), "only the built-in engine takes instruments"
    scheduler = engine.follow(ForcedSchedule(recorded)) if mode == "schedule" else engine.own_scheduler()
    for done, _ in engine.run(scheduler):
        if progress:
            progress("diagnose", min(done.index, step) + 1, step + 1)
        if done.index >= step:
            break
    rows = most_rows(max([len(moment.output) for moment in capture.moments.values()], default=1))
    engine.reserve(rows, rows)
    return Side(capture.moments, writes.prints, engine.decoder.config.shapes())

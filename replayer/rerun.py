"""A run again up to one step, to look at one op of it and to run that op by itself afterwards."""

from contextlib import closing
from dataclasses import dataclass

from detrec.config import ServeConfig
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.start import Progress, start_engine
from detrec.recorder.reader import TraceReader
from detrec.replayer.capture import Capture, Moment, Writes
from detrec.replayer.collective import Again, Reserved
from detrec.replayer.findings import Batches, Repeats
from detrec.replayer.forced import ForcedSchedule


@dataclass(frozen=True, slots=True)
class Side:
    """One run up to a step: what was captured there, by op, and the shapes of the model's tensors.

    `writes`: fingerprints of the KV that the layer wrote until then, by (request, position). `company`: of an
    op that ranks do together, what they did when they did it again.
    """

    moments: dict[str, Moment]
    writes: dict[tuple[str, int], list[int]]
    shapes: dict[str, tuple[int, ...]]
    company: tuple[Repeats, Batches] | None = None


def rerun(
    config: ServeConfig,
    recorded: TraceReader,
    capture: Capture,
    writes: Writes,
    step: int,
    mode: str,
    fault: str,
    progress: Progress | None,
    together: Again | None = None,
) -> Side:
    """Run the requests of `recorded` by `config`, `mode` and `fault` to the end of `step`, and no further.

    The captured ops can be called then, on any rows that an experiment needs: no next step has begun, so a
    fault takes `step` for the present one. Of several ranks this is rank 0; `together` is done by all of them
    before they end. Raises as `replay` does.
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
    capture.shares = engine.rank.shares
    with closing(engine):
        plan = ForcedSchedule(recorded)
        scheduler = engine.follow(plan) if mode == "schedule" else engine.own_scheduler()
        for done, _ in engine.run(scheduler, until=step):
            if progress:
                progress("diagnose", min(done.index, step) + 1, step + 1)
        engine.on_every_rank(Reserved())
        company = engine.on_every_rank(together) if together else None
    return Side(capture.moments, writes.prints, engine.decoder.config.shapes(), company)

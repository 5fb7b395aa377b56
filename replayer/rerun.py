"""A run again up to one step, to look at one op of it and to run that op by itself afterwards."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from detrec.config import ServeConfig
from detrec.engines.builtin.cut import Cut
from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.start import Progress, start_engine
from detrec.recorder.reader import TraceReader
from detrec.replayer.arguments import same_bits
from detrec.replayer.capture import Capture, Moment, Writes
from detrec.replayer.experiments import Held, outcome
from detrec.replayer.findings import Batches, Repeats
from detrec.replayer.forced import ForcedSchedule
from detrec.replayer.jobs import OWN, Company, Fetched, Outcomes, Prints, Reserved, Seen, Written


@dataclass(frozen=True, slots=True)
class Until:
    """What is run again: the requests of `recorded` by `mode` and `fault`, to the end of `step`."""

    recorded: TraceReader
    step: int
    mode: str = "schedule"
    fault: str = ""


class Side:
    """A run that has ended at a step, and that can be asked until it is closed.

    No next step has begun, so a fault takes that one for the present one. `prints`: of each rank, by op, the
    fingerprints of what was captured. A lane is a rank; one that the run does not have is its rank 0.
    """

    def __init__(self, engine: BuiltinEngine) -> None:
        self._engine = engine
        engine.on_every_rank(Reserved())
        self.prints: list[dict[str, Prints]] = engine.on_every_rank(Seen())

    def rank(self, lane: int) -> int:
        """The rank that stands in a lane."""
        return lane if lane < len(self.prints) else 0

    def print_at(self, name: str, place: tuple[str, int], lane: int) -> int | None:
        """The fingerprint of an op's row at (request, position); None where the run did not come there."""
        return self.prints[self.rank(lane)].get(name, {}).get(place)

    def cut(self, rank: int) -> Cut:
        """What that rank holds of the model."""
        return Cut(self._engine.cut.model, rank, len(self.prints))

    def held(self, name: str, place: tuple[str, int], lane: int, *, together: bool) -> Held | None:
        """An op that was captured, seen from its row at a place; None where the run did not come there.

        `together`: all ranks run it.
        """
        rank = self.rank(lane)
        if self.print_at(name, place, rank) is None:
            return None
        ranks = tuple(range(len(self.prints))) if together else (rank,)
        moments = self._engine.on_every_rank(Fetched(name, ranks))
        row = moments[rank].row(*place)
        assert row is not None, "it has a fingerprint"
        return Held(moments, rank, row, lambda args: self._run(moments, args))

    def company(self, held: Held) -> tuple[Repeats, Batches] | None:
        """The op again and again, and in other company."""
        moment = held.moment
        request, position = moment.places[held.row]
        job = Company(moment.name, request, position, held.rank, together=len(held.moments) > 1)
        return self._engine.on_every_rank(job)

    def written(self, lane: int) -> Mapping[tuple[str, int], list[int]]:
        """Fingerprints of the KV that the layer wrote until then, by (request, position)."""
        return self._engine.on_every_rank(Written(self.rank(lane)))

    def _run(
        self, moments: Mapping[int, Moment], args: Mapping[int, tuple[Any, ...]]
    ) -> Mapping[int, np.ndarray]:
        """The op on other arguments of each of its ranks."""
        if set(args) == {0}:
            return {0: outcome(moments[0], args[0])}
        # most are the rank's own, and large
        sent = {
            rank: tuple(
                OWN if same_bits(value, own) else value
                for value, own in zip(values, moments[rank].args, strict=True)
            )
            for rank, values in args.items()
        }
        (name,) = {moment.name for moment in moments.values()}
        return self._engine.on_every_rank(Outcomes(name, sent))


@contextmanager
def rerun(
    config: ServeConfig,
    until: Until,
    capture: Capture,
    writes: Writes,
    progress: Progress | None = None,
) -> Iterator[Side]:
    """Run by `config` until a step, and stay there. Raises as `replay` does."""
    recorded = until.recorded
    engine = start_engine(
        config,
        requests=recorded.requests,
        forced=None if until.mode == "free" else recorded.taken_tokens(),
        fault=until.fault,
        instruments=(capture, writes),
        progress=progress,
    )
    assert isinstance(engine, BuiltinEngine), "only the built-in engine takes instruments"
    with closing(engine):
        plan = ForcedSchedule(recorded)
        scheduler = engine.follow(plan) if until.mode == "schedule" else engine.own_scheduler()
        for done, _ in engine.run(scheduler, until=until.step):
            if progress:
                progress("diagnose", min(done.index, until.step) + 1, until.step + 1)
        yield Side(engine)

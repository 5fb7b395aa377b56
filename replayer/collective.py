"""What ranks do together at a divergence: what they brought to it, and the same done again by all of them.

A sum over ranks cannot be run by one of them. It is run again by all, each on what it gave, in the processes
of a run that has ended there.
"""

from dataclasses import dataclass

from detrec.engines.builtin.engine import BuiltinEngine
from detrec.recorder.reader import TraceReader
from detrec.replayer.capture import Capture
from detrec.replayer.experiments import company, most_rows
from detrec.replayer.findings import Batches, Ranks, Repeats
from detrec.replayer.witnesses import Place

TIMES = 32, 4
"""How often it is repeated on its own batch, and on each other one: the same on every rank."""

_SUMMANDS = {"o_proj": "o_partial", "down_proj": "down_partial"}
"""What each rank gives to a sum, by bare names."""


def is_collective(name: str, field: str, ranks: int) -> bool:
    """Does the op of that name need all ranks?"""
    return ranks > 1 and (field in ("all_reduce", "embedding") or name == "logits")


def rank_findings(recorded: TraceReader, replayed: TraceReader, place: Place) -> Ranks | None:
    """What the ranks of either run hold at the divergent cell; None where that says nothing."""
    layer, _, op = place.name.rpartition(".")
    summand = f"{layer}.{_SUMMANDS[op]}" if op in _SUMMANDS else ""
    if max(recorded.ranks, replayed.ranks) == 1 and not summand:
        return None
    settings = [trace.manifest.get("config", {}).get("engine", {}) for trace in (recorded, replayed)]
    invariant = all(engine.get("reduction") == "tp_invariant" for engine in settings)
    if recorded.ranks != replayed.ranks:
        return Ranks(None, (recorded.ranks, replayed.ranks), invariant=invariant)
    differ, _ = _differing(recorded, replayed, place, place.name)
    equal = None
    if summand in recorded.ops and summand in replayed.ops:
        unlike, whole = _differing(recorded, replayed, place, summand)
        equal = not unlike if whole else None
    return Ranks(equal, (recorded.ranks, replayed.ranks), differ, invariant)


def _differing(
    recorded: TraceReader, replayed: TraceReader, place: Place, op: str
) -> tuple[tuple[int, ...], bool]:
    """The ranks that have not the recorded fingerprint, and whether all of both runs have one."""
    here, there = (
        [int(run.fingerprints(row, row + 1, rank)[0, run.ops.index(op)]) for rank in range(run.ranks)]
        for run, row in ((recorded, place.recorded_row), (replayed, place.replayed_row))
    )
    return tuple(rank for rank in range(len(here)) if here[rank] != there[rank]), all(here) and all(there)


@dataclass(frozen=True, slots=True)
class Reserved:
    """A job for every rank: room for experiments on whatever was captured."""

    def __call__(self, engine: BuiltinEngine) -> None:
        """Make it."""
        lengths = [len(moment.output) for moment in _capture(engine).moments.values()]
        rows = most_rows(max(lengths, default=1))
        engine.reserve(rows, rows)


@dataclass(frozen=True, slots=True)
class Again:
    """A job for every rank: the captured op `name`, again and in other company, as seen by one row."""

    name: str
    request: str
    position: int

    def __call__(self, engine: BuiltinEngine) -> tuple[Repeats, Batches] | None:
        """None where the run did not come there: then no rank's did."""
        moment = _capture(engine).moments.get(self.name)
        row = None if moment is None else moment.row(self.request, self.position)
        return None if moment is None or row is None else company(moment, row, TIMES)


def _capture(engine: BuiltinEngine) -> Capture:
    return next(instrument for instrument in engine.instruments if isinstance(instrument, Capture))

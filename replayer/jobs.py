"""What the ranks of a run that has ended at a step do for a diagnosis: each a job for all of them at once.

An op is run again where it ran, with whatever ails that process; what ranks do together, all do again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detrec.engines.builtin.engine import BuiltinEngine
from detrec.engines.ops import named
from detrec.replayer.capture import Capture, Moment, Writes
from detrec.replayer.experiments import company, most_rows, outcome, prints_of
from detrec.replayer.findings import Batches, Repeats

TIMES = 32, 4
"""How often ranks repeat an op on its own batch, and on each other one: the same on every rank."""

OWN = "as captured"
"""Stands for an argument that is what the rank's own op was given."""

Prints = Mapping[tuple[str, int], int]
"""By (request, position), the fingerprint of a row."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """Room for experiments on whatever was captured."""

    def __call__(self, engine: BuiltinEngine) -> None:
        """Make it."""
        lengths = [len(moment.output) for moment in captured(engine).values()]
        rows = most_rows(max(lengths, default=1))
        engine.reserve(rows, rows)


@dataclass(frozen=True, slots=True)
class Seen:
    """The fingerprints of everything that was captured."""

    def __call__(self, engine: BuiltinEngine) -> list[dict[str, Prints]]:
        """Of each rank, by op in the order in which they ran."""
        return engine.gather(
            {
                name: dict(zip(moment.places, prints_of(moment.output, moment.share), strict=True))
                for name, moment in captured(engine).items()
            }
        )


@dataclass(frozen=True, slots=True)
class Fetched:
    """The op `name` as `ranks` captured it."""

    name: str
    ranks: tuple[int, ...]

    def __call__(self, engine: BuiltinEngine) -> dict[int, Moment]:
        """By rank; but for this rank's own, their ops cannot be called here."""
        own = captured(engine)[self.name] if engine.rank.index in self.ranks else None
        # rank 0 is who asks: its own need not be sent
        every = engine.gather(replace(own, op=_elsewhere) if own and engine.rank.index else None)
        if own and not engine.rank.index:
            every[0] = own
        return {rank: moment for rank in self.ranks if (moment := every[rank]) is not None}


@dataclass(frozen=True, slots=True)
class Written:
    """The fingerprints of the KV that rank `rank` wrote."""

    rank: int

    def __call__(self, engine: BuiltinEngine) -> dict[tuple[str, int], list[int]]:
        """By (request, position), one a time that it was written."""
        writes = next(each for each in engine.instruments if isinstance(each, Writes))
        return engine.gather(writes.prints if engine.rank.index == self.rank else {})[self.rank]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The op `name` on other arguments, by rank: each an argument, or OWN."""

    name: str
    args: Mapping[int, tuple[Any, ...]]

    def __call__(self, engine: BuiltinEngine) -> dict[int, np.ndarray]:
        """What each of these ranks got."""
        found = None
        if (given := self.args.get(engine.rank.index)) is not None:
            moment = captured(engine)[self.name]
            own = zip(given, moment.args, strict=True)
            found = outcome(moment, tuple(mine if _is_own(arg) else arg for arg, mine in own))
        every = engine.gather(found)
        return {rank: output for rank in self.args if (output := every[rank]) is not None}


@dataclass(frozen=True, slots=True)
class Company:
    """The op `name` again and in other company, as one row of rank `rank` sees it.

    `together`: all ranks run it, each on its own share of the same rows.
    """

    name: str
    request: str
    position: int
    rank: int
    together: bool

    def __call__(self, engine: BuiltinEngine) -> tuple[Repeats, Batches] | None:
        """None where the run did not come there: then no rank's did."""
        moment = captured(engine).get(self.name)
        row = None if moment is None else moment.row(self.request, self.position)
        seen = None
        if moment is not None and row is not None and (self.together or engine.rank.index == self.rank):
            seen = company(moment, row, TIMES if self.together else None)
        return engine.gather(seen)[self.rank]


def captured(engine: BuiltinEngine) -> dict[str, Moment]:
    """What this rank captured, by op."""
    capture = next(each for each in engine.instruments if isinstance(each, Capture))
    return {
        name: replace(moment, share=engine.rank.shares.get(name)) for name, moment in capture.moments.items()
    }


def _is_own(arg: Any) -> bool:
    return isinstance(arg, str) and arg == OWN


@named("of another rank")
def _elsewhere(name: str, *args: Any) -> Any:
    raise AssertionError(f"{name} of another rank is run by that rank")

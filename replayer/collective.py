"""What ranks do together at a divergence: which ops, and what each rank brought to them."""

from collections.abc import Sequence
from dataclasses import replace

from detrec.recorder.reader import TraceReader
from detrec.replayer.findings import Ranks
from detrec.replayer.witnesses import Place

_Sides = tuple[Sequence[int], Sequence[int]]
"""Fingerprints by rank, of the recorded and of the replayed run."""

_SUMMANDS = {"o_proj": "o_partial", "down_proj": "down_partial"}
"""What each rank gives to a sum, by bare names."""


def is_collective(name: str, field: str, ranks: int) -> bool:
    """Does the op of that name need all ranks?"""
    return ranks > 1 and (field in ("all_reduce", "embedding") or name == "logits")


def rank_findings(recorded: TraceReader, replayed: TraceReader, place: Place) -> Ranks | None:
    """What the ranks of either run hold at the divergent cell; None where that says nothing."""
    summand = summand_of(place.name)
    if max(recorded.ranks, replayed.ranks) == 1 and not summand:
        return None
    settings = [trace.manifest.get("config", {}).get("engine", {}) for trace in (recorded, replayed)]
    invariant = all(engine.get("reduction") == "tp_invariant" for engine in settings)
    if recorded.ranks != replayed.ranks:
        return Ranks(None, (recorded.ranks, replayed.ranks), invariant=invariant)
    differ = _differing(*_prints(recorded, replayed, place, place.name))
    brought = None
    if summand in recorded.ops and summand in replayed.ops:
        brought = _prints(recorded, replayed, place, summand)
    return Ranks(_equal(brought), (recorded.ranks, replayed.ranks), differ, invariant)


def summand_of(name: str) -> str:
    """The op by which each rank gives to that sum; "" for what is no sum."""
    layer, _, op = name.rpartition(".")
    return f"{layer}.{_SUMMANDS[op]}" if op in _SUMMANDS else ""


def ranks_again(ranks: Ranks, outputs: _Sides, summands: _Sides | None) -> Ranks:
    """`ranks` of another op, by what both runs gave when they were run again; `summands` of a sum."""
    return replace(ranks, equal_partials=_equal(summands), differ=_differing(*outputs))


def _prints(recorded: TraceReader, replayed: TraceReader, place: Place, op: str) -> _Sides:
    here, there = (
        [int(run.fingerprints(row, row + 1, rank)[0, run.ops.index(op)]) for rank in range(run.ranks)]
        for run, row in ((recorded, place.recorded_row), (replayed, place.replayed_row))
    )
    return here, there


def _differing(here: Sequence[int], there: Sequence[int]) -> tuple[int, ...]:
    """The ranks that have not the recorded fingerprint."""
    return tuple(rank for rank in range(len(here)) if here[rank] != there[rank])


def _equal(summands: _Sides | None) -> bool | None:
    """Did all ranks give the same to a sum in both runs? None where not all have a fingerprint."""
    if summands is None or not all(all(side) for side in summands):
        return None
    return not _differing(*summands)

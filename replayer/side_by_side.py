"""Two runs that have ended at a divergence, side by side: what they show of its op, on the rank where it is.

The reference is the recorded run again, the suspect is the replay again.
"""

from dataclasses import dataclass, replace

import numpy as np

from detrec.kernels.share import summed
from detrec.recorder.reader import TraceReader
from detrec.replayer.capture import Moment
from detrec.replayer.collective import ranks_again, summand_of
from detrec.replayer.divergence import Divergence, split_name
from detrec.replayer.experiments import Held, graft, named
from detrec.replayer.findings import Difference, Findings, Ranks, Reference, Weight
from detrec.replayer.rerun import Side
from detrec.replayer.tensor_diff import difference
from detrec.replayer.weights import changed_in_memory
from detrec.replayer.witnesses import Place, cache_findings


@dataclass(frozen=True, slots=True)
class Sides:
    """Either run, None where it could not be run again or did not come to the divergence."""

    reference: Side | None
    suspect: Side | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Both runs' part in the experiments, None as in Sides."""

    reference: Held | None
    suspect: Held | None


def given_again(found: Findings, place: Place, sides: Sides) -> tuple[Findings, Sides]:
    """What either run gave at the divergent cell; those are left that came there."""
    cell = found.first.recorded, found.first.replayed
    both = sides.reference, sides.suspect
    ours, theirs = (None if side is None else _cell(side, place, found.first.rank) for side in both)
    found = replace(found, replays=sum(side is not None for side in both))
    if sides.reference is not None:
        found = replace(found, reference=Reference(ours == cell[0]))
    if sides.suspect is not None:
        found = replace(found, again="" if theirs is None else named(theirs, cell))
    return found, Sides(None if ours is None else sides.reference, None if theirs is None else sides.suspect)


def narrowed(found: Findings, place: Place, sides: Sides) -> tuple[Findings, Place]:
    """To the first op, row and rank that differ among those that the trace does not have."""
    ours, theirs = sides.reference, sides.suspect
    if ours is None or theirs is None or not reproduced(found) or len(ours.prints) != len(theirs.prints):
        return found, place
    first = _first_untraced(ours, theirs, place)
    if first is None:
        return _rank_by_rank(found, place, ours, theirs), place
    name, (request, position), rank = first
    moved = replace(place, name=name, request=request, position=position)
    here, there = _by_rank(ours, moved, name), _by_rank(theirs, moved, name)
    layer, op = split_name(name)
    lane = None if found.first.rank is None and len(ours.prints) == 1 else rank
    at = Divergence(found.first.step, request, position, layer, op, lane, here[rank], there[rank])
    # which kernels ran is seen where both are held
    return replace(found, first=at, ranks=_ranks(found, moved, ours, theirs), kernels=None), moved


def reproduced(found: Findings) -> bool:
    """Has the reference the recorded tensors?"""
    return found.reference is not None and found.reference.reproduces


def held(found: Findings, place: Place, sides: Sides, *, together: bool) -> Pair:
    """The op of either run, on the divergence's rank, or `together` on all of them."""
    at, lane = (place.request, place.position), found.first.rank or 0
    return Pair(
        *(
            None if side is None else side.held(place.name, at, lane, together=together)
            for side in (sides.reference, sides.suspect)
        )
    )


def measured(
    found: Findings, place: Place, sides: Sides, pair: Pair, traces: tuple[TraceReader, TraceReader]
) -> Findings:
    """What the suspect's op shows by itself, and both side by side; `traces` are the two runs'."""
    reference, suspect = pair.reference, pair.suspect
    if suspect is None or sides.suspect is None:
        return found
    seen = sides.suspect.company(suspect)
    repeats, batches = seen or (None, None)
    found = replace(found, field=suspect.moment.field, repeats=repeats, batches=batches)
    if reference is None:
        return found
    found = replace(found, weights=_weights(found, reference, suspect, sides.suspect))
    if not reproduced(found):
        return found
    ours, theirs = reference.moment, suspect.moment
    prints = found.first.recorded, found.first.replayed
    found = replace(found, graft=graft(reference, suspect, prints), difference=_difference(ours, theirs))
    if found.graft is None or ours.field != "attention":
        return found
    written = sides.suspect.written(suspect.rank)
    return replace(found, cache=cache_findings(ours, theirs, place, traces, written))


def kernels(reference: Held, suspect: Held) -> tuple[str, str] | None:
    """Which ran on the rank that is looked at, where they are not the same: a trace has those of rank 0."""
    ran = reference.moment.kernel, suspect.moment.kernel
    return ran if ran[0] != ran[1] else None


def _cell(side: Side, place: Place, lane: int | None) -> int | None:
    """The fingerprint of the divergent cell, as it was compared: of one rank, or summed over all."""
    at = place.request, place.position
    if lane is not None:
        return side.print_at(place.name, at, lane)
    shares = _by_rank(side, place, place.name)
    return int(summed(np.array(shares, np.uint64))) if all(shares) else None


def _rank_by_rank(found: Findings, place: Place, ours: Side, theirs: Side) -> Findings:
    """What the traces, of other numbers of ranks, could not compare rank by rank."""
    if found.ranks is None or found.ranks.sizes[0] == found.ranks.sizes[1] or len(ours.prints) == 1:
        return found
    found = replace(found, ranks=_ranks(found, place, ours, theirs))
    if found.first.rank is not None:
        return found
    here, there = _by_rank(ours, place, place.name), _by_rank(theirs, place, place.name)
    rank = next((rank for rank in range(len(here)) if here[rank] != there[rank]), None)
    if rank is None:
        return replace(found, first=replace(found.first, rank=0, recorded=here[0]))
    return replace(found, first=replace(found.first, rank=rank, recorded=here[rank], replayed=there[rank]))


def _ranks(found: Findings, place: Place, ours: Side, theirs: Side) -> Ranks | None:
    """What the ranks gave at the place, and brought to it, when both were run again."""
    outputs, summands = (
        (_by_rank(ours, place, name), _by_rank(theirs, place, name))
        for name in (place.name, summand_of(place.name))
    )
    return found.ranks and ranks_again(found.ranks, outputs, summands)


def _by_rank(side: Side, place: Place, name: str) -> list[int]:
    """Each rank's fingerprint of an op at the place; 0 where it was not captured."""
    at = place.request, place.position
    return [side.print_at(name, at, rank) or 0 for rank in range(len(side.prints))]


def _first_untraced(ours: Side, theirs: Side, place: Place) -> tuple[str, tuple[str, int], int] | None:
    """Op, (request, position) and rank that differ first, the op of the place left out."""
    for name in ours.prints[0]:
        if name == place.name:
            continue
        for at in ours.prints[0][name]:
            for rank in range(len(ours.prints)):
                there = theirs.print_at(name, at, rank)
                if there is not None and there != ours.print_at(name, at, rank):
                    return name, at, rank
    return None


def _weights(found: Findings, reference: Held, suspect: Held, side: Side) -> tuple[Weight, ...] | None:
    """Those that were seen to differ, with what is known of them from memory first."""
    in_memory = tuple(
        weight
        for rank, ours in zip(suspect.moments, reference.moments.values(), strict=True)
        for weight in changed_in_memory(ours, suspect.moments[rank], side.cut(rank))
    )
    names = {weight.name for weight in in_memory}
    rest = tuple(weight for weight in found.weights or () if weight.name not in names)
    return in_memory + rest if in_memory else found.weights


def _difference(recorded: Moment, replayed: Moment) -> Difference | None:
    """Of the rows that both have."""
    pairs = [
        (row, other)
        for row, place in enumerate(recorded.places)
        if (other := replayed.row(*place)) is not None
    ]
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    return difference(recorded.output[ours], replayed.output[theirs], head=_head(recorded))


def _head(moment: Moment) -> int:
    """The width of a head of the output, 0 where it has none."""
    if moment.field == "attention":
        return round(moment.args[3] ** -2)
    if moment.field == "rope":
        return 2 * int(moment.args[2].shape[1])
    return len(moment.args[1]) if moment.field == "rms_norm" else 0

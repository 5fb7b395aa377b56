"""What there is to say of a run's ranks, in words and as JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from detrec.printable import counted, place_of
from detrec.replayer.agreement import Disagreement
from detrec.replayer.comparison import Comparison
from detrec.replayer.divergence import split_name


def lines(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Label and text of each fact."""
    for run, found in zip(("recorded", "replayed"), comparison.disagreements, strict=True):
        if found is not None:
            yield "ranks", f"{run}: {disagree(found)}"
    if comparison.incomparable:
        names = ", ".join(_bare(comparison.incomparable))
        cells = comparison.rows.matched * len(comparison.incomparable)
        yield "ranks", f"{names}: summands of other ranks, not comparable ({counted(cells, 'cell')})"


def to_json(comparison: Comparison) -> dict[str, Any]:
    """`recorded` and `replayed` are null where a run's ranks agree; `incomparable` are bare names of ops."""
    sides = [None if found is None else asdict(found) for found in comparison.disagreements]
    return {"recorded": sides[0], "replayed": sides[1], "incomparable": _bare(comparison.incomparable)}


def disagree(found: Disagreement) -> str:
    """Where the ranks of one run first differ."""
    return f"ranks disagree first at {place_of(found)}: rank {found.rank} has not what rank 0 has"


def _bare(names: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(split_name(name)[1] for name in names))

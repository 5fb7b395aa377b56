"""What sketches tell, in words and as JSON."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from detrec.printable import counted, place_of
from detrec.replayer.divergence import Divergence
from detrec.replayer.tolerance import Apart, Tolerance


def to_json(tolerance: Tolerance) -> dict[str, Any]:
    """The `tolerance` of `--json`: its fields, infinite units as null."""
    data = asdict(tolerance)
    for cell in (data["first"], data["worst"]):
        if cell is not None and cell["units"] == float("inf"):
            cell["units"] = None
    return data


def verdict(tolerance: Tolerance) -> str:
    """The first line of a comparison by sketches."""
    if tolerance.first is not None:
        return f"diverged: first beyond tolerance at {place_of(tolerance.first)}"
    if tolerance.verdict == "unknown":
        return "could not tell: no sketch is in both runs"
    are = "is" if tolerance.compared == 1 else "are"
    return f"close: {counted(tolerance.compared, 'sketch', 'sketches')} {are} within tolerance"


def lines(tolerance: Tolerance) -> Iterator[tuple[str, str]]:
    """Labelled facts."""
    if tolerance.first is not None:
        first = tolerance.first
        yield (
            "sketch",
            f"{tolerance.apart:,} of {tolerance.compared:,} beyond tolerance, first at {place_of(first)}",
        )
        yield (
            "",
            f"{_units(first)} of {tolerance.dtype} rounding apart, {first.allowed:,.0f} at most expected",
        )
    elif tolerance.worst is not None and not tolerance.worst.units:
        yield "sketch", f"{tolerance.compared:,} are equal"
    elif tolerance.worst is not None:
        worst = tolerance.worst
        yield "sketch", f"{tolerance.compared:,} within tolerance; the nearest to it at {place_of(worst)}"
        yield (
            "",
            f"{_units(worst)} of {tolerance.dtype} rounding apart, {worst.allowed:,.0f} at most expected",
        )
    else:
        yield "sketch", "none is in both runs"


def elsewhere(tolerance: Tolerance, first: Divergence | None) -> bool:
    """Is the first cell beyond tolerance another than the first whose bits differ?"""
    return tolerance.first is not None and (first is None or place_of(tolerance.first) != place_of(first))


def _units(cell: Apart) -> str:
    return f"{cell.units:,.1f} units"

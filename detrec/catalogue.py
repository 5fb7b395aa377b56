"""What `detrec faults` prints: every reported cause, and whether it can be injected here."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detrec.engines.faults.base import Fault


def faults() -> list[dict[str, Any]]:
    """What can be injected, then what cannot.

    Each: name; class; summary; parameters with their defaults (rank None: wherever the engine has it);
    source, where it was reported; `expects`, the verdict that a replay must give; `needs`, what an engine
    lacks to show it, or None.
    """
    from detrec.engines.faults import FAULTS
    from detrec.engines.faults.needed import NEEDED

    rows = [_row(fault, _parameters(fault), None) for fault in FAULTS.values()]
    return rows + [_row(each, {}, each.needs) for each in NEEDED.values()]


def _parameters(fault: "type[Fault]") -> dict[str, Any]:
    own = dict(fault.__init__.__kwdefaults__ or {})
    return own | {"rank": None} if fault.one_rank else own


def _row(cause: Any, parameters: dict[str, Any], needs: str | None) -> dict[str, Any]:
    return {
        "name": cause.name,
        "class": cause.cause,
        "summary": cause.summary,
        "parameters": parameters,
        "source": cause.source,
        "expects": cause.expects,
        "needs": needs,
    }


def to_text(rows: list[dict[str, Any]]) -> str:
    """One block of four lines a cause."""
    lines = []
    for row in rows:
        given = {key: value for key, value in row["parameters"].items() if value is not None}
        parameters = ",".join(f"{key}={value}" for key, value in given.items())
        alone = "; with rank=R on that rank alone" if "rank" in row["parameters"] else ""
        lines += [
            f"{row['name']}: needs {row['needs']}" if row["needs"] else f"{row['name']}:{parameters}",
            f"    {row['summary']}{alone}",
            f"    {row['class']}; {row['source']}",
            f"    expects: {row['expects']}",
        ]
    return "\n".join(lines)

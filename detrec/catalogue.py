"""What `detrec faults` prints."""

from typing import Any


def faults() -> list[dict[str, Any]]:
    """Every fault that can be injected: name, class of cause, meaning, parameters, where it was reported."""
    from detrec.engines.faults import FAULTS

    rows = []
    for fault in FAULTS.values():
        defaults = fault.__init__.__kwdefaults__ or {}
        rows.append(
            {
                "name": fault.name,
                "class": fault.cause,
                "summary": fault.summary,
                "parameters": {key: defaults[key] for key in defaults},
                "source": fault.source,
            }
        )
    return rows


def to_text(rows: list[dict[str, Any]]) -> str:
    """One block a fault."""
    lines = []
    for row in rows:
        parameters = ",".join(f"{key}={value}" for key, value in row["parameters"].items())
        lines += [
            f"{row['name']}:{parameters}",
            f"    {row['summary']}",
            f"    {row['class']}; {row['source']}",
        ]
    return "\n".join(lines)

"""Facts as words, the same that `--json` prints: numbers, fingerprints, ids, places."""

import json
from typing import Any

from detrec.printable import printable
from detrec.replayer.survey.cell import Cell


def bits(fingerprint: int) -> str:
    """A fingerprint; a line where none was recorded."""
    return f"{fingerprint:016x}" if fingerprint else "-" * 16


def place(cell: Cell) -> str:
    """Request and position, and which time round it was if the request was preempted."""
    again = f" (again {cell.generation})" if cell.generation else ""
    return f"{printable(cell.request)}:{cell.position}{again}"


def value(of: Any) -> str:
    """A value as JSON has it, in printable ASCII; a side that has none is a line."""
    return "-" if of is None else json.dumps(of)

"""What a cell is called and what may be said of it."""

from dataclasses import dataclass
from enum import IntEnum


class State(IntEnum):
    """What is known of a cell, the worst last: of many cells at once the highest is shown.

    ABSENT: no cell is due there. RECORDED: one run alone has it. EQUAL: compared, and the same. MISSING: it
    is due and at most one run has it. CORRUPT: its bytes are not those that were recorded. INHERITED: it
    differs, and so did something it depends on. BORN: it differs, and nothing it depends on did.
    """

    ABSENT = 0
    RECORDED = 1
    EQUAL = 2
    MISSING = 3
    CORRUPT = 4
    INHERITED = 5
    BORN = 6


@dataclass(frozen=True, slots=True)
class Cell:
    """One op of one row: where somebody stands who walks through a survey.

    `op` indexes the survey's ops; `generation` counts the preemptions before. `row` and `other` are the
    rows in the recorded and the replayed run, -1 where that run has none; `step` is the recorded run's, or
    the replayed one's where only that has the row.
    """

    step: int
    request: str
    position: int
    generation: int
    op: int
    row: int
    other: int = -1


@dataclass(frozen=True, slots=True)
class Found:
    """A divergent row: the `cell` is its first op that differs, on `ranks` ranks; `cells` of the row differ
    in all.
    """

    cell: Cell
    born: bool
    ranks: int
    cells: int

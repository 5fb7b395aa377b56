"""Where somebody stands in a survey, and how deep: step, layer, op, row, element.

Pure: a new Stand for every move.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

from detrec.replayer.survey.cell import Cell


class Level(IntEnum):
    """What is being chosen; each is inside the one before."""

    STEP = 0
    LAYER = 1
    OP = 2
    ROW = 3
    ELEMENT = 4


PANES = {Level.STEP: "map", Level.LAYER: "map", Level.OP: "ops", Level.ROW: "rows", Level.ELEMENT: "elements"}
"""The pane in which each is chosen."""


@dataclass(frozen=True, slots=True)
class Stand:
    """`cell` is None where there is nothing to stand on. `map_level` is what the map shows: never below OP.

    `rank` None looks at the worst of all ranks. `element` is one of the cell's tensor.
    """

    cell: Cell | None = None
    pane: str = "map"
    map_level: Level = Level.LAYER
    rank: int | None = None
    element: int = 0

    @property
    def level(self) -> Level:
        """How deep: by the pane, and in the map by what it shows."""
        for level in (Level.OP, Level.ROW, Level.ELEMENT):
            if PANES[level] == self.pane:
                return level
        return self.map_level

    def down(self) -> "Stand | None":
        """One level deeper, None at the bottom."""
        if self.level is Level.ELEMENT:
            return None
        return self._at(Level(self.level + 1))

    def up(self) -> "Stand | None":
        """One level up, None at the top. Out of a pane beside the levels it is the way back to the map."""
        if self.pane not in PANES.values():
            return replace(self, pane="map")
        if self.level is Level.STEP:
            return None
        return self._at(Level(self.level - 1))

    def _at(self, level: Level) -> "Stand":
        return replace(self, pane=PANES[level], map_level=Level(min(level, Level.OP)))

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
class Place:
    """A cell, None where there is nothing to stand on; `rank` None looks at the worst of all ranks."""

    cell: Cell | None = None
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Depth:
    """The pane in front, and what the map shows: never anything below OP."""

    pane: str = "map"
    map_level: Level = Level.LAYER

    @property
    def level(self) -> Level:
        """How deep: by the pane, and in the map by what it shows."""
        for level in (Level.OP, Level.ROW, Level.ELEMENT):
            if PANES[level] == self.pane:
                return level
        return self.map_level

    def down(self) -> "Depth | None":
        """One level deeper, None at the bottom."""
        return None if self.level is Level.ELEMENT else self._at(Level(self.level + 1))

    def up(self) -> "Depth | None":
        """One level up, None at the top. Out of a pane beside the levels it is the way back to the map."""
        if self.pane not in PANES.values():
            return replace(self, pane="map")
        if self.level is Level.STEP:
            return None
        # an op that was chosen in the map was in the same pane
        if self.pane == "map" or self.level > Level.OP:
            return self._at(Level(self.level - 1))
        return Depth("map", Level.LAYER)

    def _at(self, level: Level) -> "Depth":
        return Depth(PANES[level], Level(min(level, Level.OP)))

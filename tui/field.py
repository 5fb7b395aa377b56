"""What a heat map is of, and a part of it that was read."""

from dataclasses import dataclass, field

import numpy as np

from detrec.replayer.survey.cell import State
from detrec.tui.viewport import Viewport


@dataclass(frozen=True, slots=True)
class Field:
    """`labels`: one a line. `unit` says what its `columns` are. `marks`: those where one was born, int64.

    Two fields with one `key` are the same, one perhaps longer.
    """

    key: object
    labels: tuple[str, ...]
    columns: int
    unit: str
    marks: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class Shown:
    """States of columns [start, stop), uint8 [lines, bins], for viewports of this `scale`."""

    key: object
    start: int
    stop: int
    scale: int
    states: np.ndarray

    def holds(self, view: Viewport) -> bool:
        """Can the viewport be drawn from it?"""
        if self.scale != view.scale:
            return False
        if not view.scale:
            return self.states.shape[1] == min(view.bins, view.total) and self.stop == view.total
        return self.start <= view.start and view.stop <= self.stop

    def overview(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Of each of `width` parts of its columns the share of lines that diverged, float64, and whether any
        was born, bool.
        """
        if not self.states.size:
            return np.zeros(width), np.zeros(width, bool)
        at = np.arange(width) * self.states.shape[1] // width
        shares, born = (self.states >= State.INHERITED).mean(axis=0), (self.states == State.BORN).any(axis=0)
        return shares[at], born[at]

    def line(self, line: int, view: Viewport) -> np.ndarray:
        """The states of one line as far as the viewport goes, uint8 [at most bins]."""
        before = (view.start - self.start) // view.scale if view.scale else 0
        return self.states[line, before : before + view.bins]

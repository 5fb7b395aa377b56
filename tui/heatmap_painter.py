"""What a heat map looks like: its lines, from what is known and where the cursor is.

Pure: a Painter is made anew for every picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from detrec.replayer.survey.cell import State
from detrec.tui import heatmap_lines as draw
from detrec.tui.field import Field, Shown
from detrec.tui.states import LOOKS
from detrec.tui.viewport import Viewport

HEAD, FOOT = 2, 1
"""Lines above the cells, and below."""

_WIDEST_LABEL = 12
_TALLEST = 3

STYLES = frozenset({
    "heatmap--axis", "heatmap--here", "heatmap--cross", "heatmap--cursor", "heatmap--mark",
    "heatmap--minimap", "heatmap--view", *(look.style for look in LOOKS),
})  # fmt: skip
"""The component classes of the widget, each of which a Painter needs."""


def gutter_of(field: Field) -> int:
    """How wide the labels are, with the mark of the cursor's line."""
    return min(max([4, *(len(label) for label in field.labels)]), _WIDEST_LABEL) + 1


def tall_of(field: Field, height: int) -> int:
    """Screen lines of a line: few lines are drawn larger."""
    return min(max((height - HEAD - FOOT) // max(len(field.labels), 1), 1), _TALLEST)


@dataclass(frozen=True, slots=True)
class Painter:
    """`line` and `column` are the cursor's, `top` the first line that is seen.

    `window` is drawn as far as it is there; `overview` is what `HeatMap.put_overview` was given.
    """

    field: Field
    view: Viewport
    window: Shown | None
    overview: tuple[np.ndarray, np.ndarray] | None
    line: int
    column: int
    top: int
    born_only: bool
    size: tuple[int, int]
    styles: Mapping[str, Style]
    blank: Style

    def strip(self, y: int) -> Strip:
        """Ruler, marks, lines of cells, and last the whole length or what the symbols mean."""
        width, height = self.size
        axis, tall = self.styles["heatmap--axis"], tall_of(self.field, height)
        gutter = gutter_of(self.field)
        line = self.top + (y - HEAD) // tall
        segments: Sequence[Segment] = ()
        if y == 0:
            segments = [Segment(self.field.unit[: gutter - 1].ljust(gutter), axis)]
            if self.field.columns:
                segments += draw.ruler(self.view, self.column, axis, self.styles["heatmap--here"])
        elif y == 1:
            marks = draw.marks(self.field.marks, self.view, self.styles["heatmap--mark"])
            segments = [Segment(" " * gutter, axis), *marks]
        elif y == height - 1:
            segments = self._foot(gutter)
        elif line < len(self.field.labels):
            segments = self._cells(line, gutter, named=(y - HEAD) % tall == (tall - 1) // 2)
        return draw.fitted([*segments], width, self.blank)

    def _cells(self, line: int, gutter: int, *, named: bool) -> Sequence[Segment]:
        crossed = line == self.line
        label = self.field.labels[line] if named else ""
        label = (label if len(label) < gutter else f"{label[: gutter - 2]}…").rjust(gutter - 1)
        mark = "▸" if crossed and named else " "
        head = Segment(label + mark, self.styles["heatmap--here" if crossed else "heatmap--axis"])
        window = self.window
        if window is None or not window.holds(self.view) or line >= len(window.states):
            return [head]
        states = window.line(line, self.view)
        if self.born_only:
            states = np.where(states == State.INHERITED, np.uint8(State.ABSENT), states)
        looks = self._looks(crossed)
        cursor = self.view.bin_of(self.column)
        hot = self.styles["heatmap--cursor"]
        return [head, *draw.cells(states, looks, self.view, crossed=crossed, cursor=cursor, hot=hot)]

    def _looks(self, crossed: bool) -> list[draw.Look]:
        cross = Style(bgcolor=self.styles["heatmap--cross"].bgcolor)
        styles = [self.styles[look.style] for look in LOOKS]
        return [
            draw.Look(look.symbol, style, style + cross) for look, style in zip(LOOKS, styles, strict=True)
        ]

    def _foot(self, gutter: int) -> Sequence[Segment]:
        axis = self.styles["heatmap--axis"]
        if self.view.everything or self.overview is None or len(self.overview[0]) != self.view.width:
            return [Segment(" " * gutter, axis), *self._legend(axis)]
        density, born = self.overview
        plain, inside, mark = (self.styles[f"heatmap--{name}"] for name in ("minimap", "view", "mark"))
        head = Segment("all".rjust(gutter - 1) + " ", axis)
        return [head, *draw.minimap(density, self.view, plain, inside, mark, born)]

    def _legend(self, axis: Style) -> Iterator[Segment]:
        """What is in sight."""
        seen = set() if self.window is None else set(np.unique(self.window.states).tolist())
        for look in LOOKS[1:]:
            if look.state in seen and not (self.born_only and look.state is State.INHERITED):
                yield Segment(look.symbol, self.styles[look.style])
                yield Segment(f" {look.word}  ", axis)

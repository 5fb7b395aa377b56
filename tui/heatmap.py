"""The heat map: layers or ops down, positions or steps along, one character a cell or many cells a character.

A widget of its own lines: it draws from the window of states that it was given last, and asks for another
when it is moved out of that. What is not there yet is left blank, never drawn as equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from detrec.tui import heatmap_lines as draw
from detrec.tui.states import LOOKS
from detrec.tui.viewport import Viewport

_HEAD, _FOOT = 2, 1
_GUTTER = 13


@dataclass(frozen=True, slots=True)
class Field:
    """What a map is of: the label of each line, how many columns, what a column is, where divergences are born.

    `density` and `born` are the whole length in a minimap's characters.
    """

    key: object
    labels: tuple[str, ...]
    columns: int
    unit: str
    marks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """States of all lines for columns [start, stop), `per` of them to one: uint8 [lines, bins]."""

    key: object
    start: int
    stop: int
    per: int
    states: np.ndarray

    def holds(self, view: Viewport) -> bool:
        """Can the viewport be drawn from it?"""
        return self.per == view.per and self.start <= view.start and view.stop <= self.stop


class HeatMap(Widget, can_focus=True):
    """A field of states with a cursor. Arrows move it, + and - zoom around it, the wheel too."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1,0)", "Line up", show=False),
        Binding("down", "move(1,0)", "Line down", show=False),
        Binding("left", "move(0,-1)", "Column left", show=False),
        Binding("right", "move(0,1)", "Column right", show=False),
        Binding("pageup", "jump(-1)", "Screen left", show=False),
        Binding("pagedown", "jump(1)", "Screen right", show=False),
        Binding("home", "edge(0)", "First column", show=False),
        Binding("end", "edge(1)", "Last column", show=False),
        Binding("plus,equals_sign", "zoom(1)", "Zoom in", key_display="+"),
        Binding("minus,underscore", "zoom(-1)", "Zoom out", key_display="-"),
        Binding("0", "fit", "See all of it", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "heatmap--axis", "heatmap--here", "heatmap--cross", "heatmap--cursor", "heatmap--mark",
        "heatmap--minimap", "heatmap--view", *(look.style for look in LOOKS),
    }  # fmt: skip

    @dataclass
    class Moved(Message):
        """The cursor was put on a cell by key or mouse."""

        heatmap: "HeatMap"
        line: int
        column: int
        updown: bool
        sideways: bool

    @dataclass
    class Opened(Message):
        """A cell was clicked on twice."""

        heatmap: "HeatMap"

    @dataclass
    class WindowWanted(Message):
        """Columns [start, until), `per` to a character, are to be drawn: `put` them."""

        heatmap: "HeatMap"
        key: object
        start: int
        until: int
        per: int

    @dataclass
    class OverviewWanted(Message):
        """The minimap of `width` characters over `total` columns is to be drawn: `put_overview` it."""

        heatmap: "HeatMap"
        key: object
        total: int
        width: int

    def __init__(self, *, id: str, title: str) -> None:
        super().__init__(id=id)
        self.border_title = title
        self.hidden = False
        self.line, self.column, self.top = 0, 0, 0
        self.view = Viewport()
        self.field = Field("", (), 0, "")
        self._window: Shown | None = None
        self._overview: tuple[np.ndarray, np.ndarray] | None = None
        self._asked: tuple[object, int, int, int] | None = None

    def show(self, field: Field, *, line: int, column: int) -> None:
        """Another field, or the same one that grew; a new one is seen whole, a known one as it was."""
        fresh = field.key != self.field.key
        self.field = field
        if fresh:
            self._window = self._overview = self._asked = None
        self._resize(fit=fresh)
        self.put_cursor(line, column)

    def put(self, window: Shown) -> None:
        """A window that was asked for; one of another field is dropped."""
        if window.key == self.field.key:
            self._window, self._asked = window, None
            # it may have been moved on since
            self._ask()
            self.refresh()

    def put_overview(self, key: object, density: np.ndarray, born: np.ndarray) -> None:
        """The minimap: how much of each part diverged, float of 0 to 1, and whether some of it was born there."""
        if key == self.field.key:
            self._overview = density, born
            self.refresh()

    def put_cursor(self, line: int, column: int) -> None:
        """Move the cursor without a word to anybody, and bring it in sight."""
        self.line = min(max(line, 0), max(len(self.field.labels) - 1, 0))
        self.column = min(max(column, 0), max(self.field.columns - 1, 0))
        self.view = self.view.showing(self.column)
        rows = self._rows
        self.top = min(max(self.top, self.line - rows + 1), self.line)
        self.top = max(min(self.top, len(self.field.labels) - rows), 0)
        self._ask()
        self.refresh()

    @property
    def state(self) -> int | None:
        """The state under the cursor, None where it is not there yet."""
        window = self._window
        if window is None or window.per != 1 or not window.start <= self.column < window.stop:
            return None
        return int(window.states[self.line, self.column - window.start])

    @property
    def _gutter(self) -> int:
        return min(max([4, *(len(label) for label in self.field.labels)]) + 1, _GUTTER)

    @property
    def _rows(self) -> int:
        return max(self.content_size.height - _HEAD - _FOOT, 1)

    def _resize(self, *, fit: bool) -> None:
        self.view = self.view.sized(self.field.columns, self.content_size.width - self._gutter)
        if fit:
            self.view = self.view.fitted()

    def on_resize(self) -> None:
        """As much as fits now."""
        # what was seen whole is seen whole again
        self._resize(fit=self.view.zoom >= 0 or self.view.zoom <= self.view.widest_out)
        self.put_cursor(self.line, self.column)

    def _ask(self) -> None:
        view = self.view
        if (
            not self.field.labels
            or not self.content_size.width
            or (self._window and self._window.holds(view))
        ):
            return
        # a screen more on either side, so that the next step along is there already
        start = max(view.start - view.shown, 0) // view.per * view.per
        stop = min(view.stop + view.shown, view.total)
        asked = self.field.key, start, stop, view.per
        if asked != self._asked:
            self._asked = asked
            self.post_message(self.WindowWanted(self, *asked))
        if self._overview is None or len(self._overview[0]) != view.width:
            self.post_message(self.OverviewWanted(self, self.field.key, view.total, view.width))

    def render_line(self, y: int) -> Strip:
        """Ruler, marks, lines of cells, minimap."""
        width, height = self.content_size
        blank = self.rich_style
        axis = self._look("heatmap--axis")
        gutter = self._gutter
        if y == 0:
            here = self._look("heatmap--here")
            segments = [Segment(self.field.unit[: gutter - 1].ljust(gutter), axis)]
            segments += draw.ruler(self.view, self.column, axis, here) if self.field.columns else []
        elif y == 1:
            segments = [Segment(" " * gutter, axis)]
            segments += draw.marks(self.field.marks, self.view, self._look("heatmap--mark"))
        elif y == height - 1:
            segments = self._minimap(gutter, axis)
        elif self.top + y - _HEAD < len(self.field.labels):
            segments = self._cells(self.top + y - _HEAD, gutter, axis)
        else:
            segments = []
        return draw.fitted(segments, width, blank)

    def _cells(self, line: int, gutter: int, axis: Style) -> Sequence[Segment]:
        crossed = line == self.line
        label = self.field.labels[line]
        label = (label if len(label) < gutter else f"{label[: gutter - 2]}…").rjust(gutter - 1)
        mark = "▸" if crossed else " "
        head = Segment(label + mark, self._look("heatmap--here") if crossed else axis)
        window = self._window
        if window is None or window.per != self.view.per or line >= len(window.states):
            return [head]
        looks = self._looks()
        before = (self.view.start - window.start) // window.per
        states = window.states[line, max(before, 0) :]
        lead = max(-before, 0) * self.view.wide
        states = states[: max(self.view.width // self.view.wide - lead // self.view.wide, 0)]
        cursor = (self.column - self.view.start) // self.view.per - lead // self.view.wide
        hot = self._look("heatmap--cursor")
        return [
            head,
            Segment(" " * lead, self.rich_style),
            *draw.cells(states, looks, self.view, crossed=crossed, cursor=cursor, hot=hot),
        ]

    def _minimap(self, gutter: int, axis: Style) -> Sequence[Segment]:
        head = Segment("all".rjust(gutter - 1) + " ", axis)
        if self._overview is None or len(self._overview[0]) != self.view.width:
            return [head]
        density, born = self._overview
        plain, inside, mark = map(self._look, ("heatmap--minimap", "heatmap--view", "heatmap--mark"))
        return [head, *draw.minimap(density, self.view, plain, inside, mark, born)]

    def _looks(self) -> list[draw.Look]:
        cross = self._look("heatmap--cross")
        return [
            draw.Look(
                look.symbol, self._look(look.style), self._look(look.style) + Style(bgcolor=cross.bgcolor)
            )
            for look in LOOKS
        ]

    def _look(self, name: str) -> Style:
        return self.rich_style + self.get_component_rich_style(name, partial=True)

    def choose(self, line: int, column: int) -> None:
        """Put the cursor somewhere, as if by hand."""
        before = self.line, self.column
        self.put_cursor(line, column)
        after = self.line, self.column
        if after != before:
            self.post_message(self.Moved(self, *after, before[0] != after[0], before[1] != after[1]))

    def action_move(self, lines: int, columns: int) -> None:
        """By lines, and by as many columns as share a character."""
        self.choose(self.line + lines, self.column + columns * self.view.per)

    def action_jump(self, screens: int) -> None:
        """By what is seen."""
        self.view = self.view.panned(screens * self.view.shown)
        self.choose(self.line, self.column + screens * self.view.shown)

    def action_edge(self, last: int) -> None:
        """To the first or the last column."""
        self.choose(self.line, self.field.columns - 1 if last else 0)

    def action_zoom(self, by: int) -> None:
        """Closer or further, around the cursor."""
        self._zoom(by, self.column)

    def action_fit(self) -> None:
        """Everything in sight."""
        self.view = self.view.fitted()
        self.put_cursor(self.line, self.column)

    def _zoom(self, by: int, around: int) -> None:
        self.view = self.view.zoomed(by, around)
        self._ask()
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """One click selects, two open; on the minimap it goes there."""
        offset = event.get_content_offset(self)
        if offset is None or not self.field.columns:
            return
        x, line = offset.x - self._gutter, self.top + offset.y - _HEAD
        if offset.y == self.content_size.height - 1:
            self.choose(self.line, max(x, 0) * self.field.columns // max(self.view.width, 1))
            return
        column = self.view.column_at(x)
        if column is None or not 0 <= line < len(self.field.labels) or offset.y < _HEAD:
            return
        self.choose(line, column)
        if event.chain == 2:
            self.post_message(self.Opened(self))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Closer, around the pointer."""
        self._wheel(event, 1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Further."""
        self._wheel(event, -1)

    def _wheel(self, event: events.MouseEvent, by: int) -> None:
        event.stop()
        offset = event.get_content_offset(self)
        column = None if offset is None else self.view.column_at(offset.x - self._gutter)
        if event.shift:
            self.view = self.view.panned(-by * max(self.view.shown // 8, self.view.per))
            self._ask()
            self.refresh()
        else:
            self._zoom(by, self.column if column is None else column)

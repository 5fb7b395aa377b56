"""The heat map: layers or ops down, positions or steps along, one character a cell or many cells a character.

A widget of its own lines: it draws from the window of states that it was given last, and asks for another
when it is moved out of that. What is not there yet is left blank, never drawn as equal.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from detrec.tui.field import Field, Shown
from detrec.tui.heatmap_painter import FOOT, HEAD, STYLES, Painter, gutter_of, tall_of
from detrec.tui.viewport import Viewport


class HeatMap(Widget, can_focus=True):
    """A field of states with a cursor. Arrows move it, + and - zoom around it, the wheel too."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1,0)", "Line up", show=False, key_display="↑"),
        Binding("down", "move(1,0)", "Line down", show=False, key_display="↓"),
        Binding("left", "move(0,-1)", "Column left", show=False, key_display="←"),
        Binding("right", "move(0,1)", "Column right", show=False, key_display="→"),
        Binding("pageup", "jump(-1)", "Screen left", show=False),
        Binding("pagedown", "jump(1)", "Screen right", show=False),
        Binding("home", "edge(0)", "First column", show=False),
        Binding("end", "edge(1)", "Last column", show=False),
        Binding("plus,equals_sign", "zoom(1)", "Zoom in", key_display="+"),
        Binding("minus,underscore", "zoom(-1)", "Zoom out", key_display="-"),
        Binding("0", "fit", "See all of it", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {*STYLES}

    @dataclass
    class Moved(Message):
        """The cursor was put on a cell by key or mouse: onto another line, another column, or both."""

        line: int
        column: int
        updown: bool
        sideways: bool

    @dataclass
    class Opened(Message):
        """A cell was clicked on twice."""

    @dataclass
    class WindowWanted(Message):
        """Columns [start, until) in so many bins are to be drawn: `put` them."""

        key: object
        start: int
        until: int
        bins: int
        scale: int

    @dataclass
    class OverviewWanted(Message):
        """The line of `width` characters over `total` columns is to be drawn: `put_overview` it."""

        key: object
        total: int
        width: int

    def __init__(self, *, id: str, title: str) -> None:
        super().__init__(id=id)
        self.border_title = title
        self.line, self.column, self.top = 0, 0, 0
        self.born_only = False
        self.view = Viewport()
        self.field = Field("", (), 0, "")
        self._window: Shown | None = None
        self._overview: tuple[np.ndarray, np.ndarray] | None = None
        self._asked: tuple[object, ...] = ()
        self._painter: Painter | None = None

    def show(self, field: Field, *, line: int, column: int, born_only: bool = False) -> None:
        """Another field, or the same one that grew; a new one is seen whole, a known one as it was."""
        fresh = field.key != self.field.key
        self.field, self.born_only = field, born_only
        if fresh:
            self._window, self._overview, self._asked = None, None, ()
        view = self.view.sized(field.columns, self.content_size.width - self._gutter)
        self.view = view.fitted() if fresh else view
        self.put_cursor(line, column)

    def put(self, window: Shown) -> None:
        """A window that was asked for; one of another field is dropped."""
        if window.key == self.field.key:
            self._window, self._asked = window, ()
            if window.start == 0 and window.stop >= self.view.total:
                # it has been read for this already
                self._overview = window.overview(self.view.width)
            # it may have been moved on since
            self._ask()
            self.refresh()

    def put_overview(self, key: object, density: np.ndarray, born: np.ndarray) -> None:
        """How much of each part diverged, float of 0 to 1, and whether some of it was born there."""
        if key == self.field.key:
            self._overview = density, born
            self.refresh()

    def put_cursor(self, line: int, column: int) -> None:
        """Move the cursor without a word to anybody, and bring it in sight."""
        self.line = min(max(line, 0), max(len(self.field.labels) - 1, 0))
        self.column = min(max(column, 0), max(self.field.columns - 1, 0))
        self.view = self.view.showing(self.column)
        rows = max(self.content_size.height - HEAD - FOOT, 1) // self._tall
        self.top = min(max(self.top, self.line - rows + 1), self.line)
        self.top = max(min(self.top, len(self.field.labels) - rows), 0)
        self._ask()
        self.refresh()

    @property
    def _gutter(self) -> int:
        return gutter_of(self.field)

    @property
    def _tall(self) -> int:
        return tall_of(self.field, self.content_size.height)

    def on_resize(self) -> None:
        """As much as fits now."""
        self.view = self.view.sized(self.field.columns, self.content_size.width - self._gutter)
        self.put_cursor(self.line, self.column)

    def _ask(self) -> None:
        view = self.view
        if not self.field.labels or not self.content_size.width or not view.total:
            return
        if not (self._window and self._window.holds(view)):
            start, until, bins = 0, view.total, min(view.bins, view.total)
            if view.scale:
                # a screen more on either side, so that the next step along is there already
                start = max(view.start - view.shown, 0) // view.scale * view.scale
                until = (
                    start + -(-(min(view.stop + view.shown, view.total) - start) // view.scale) * view.scale
                )
                bins = (until - start) // view.scale
            asked = self.field.key, start, until, bins, view.scale
            if asked != self._asked:
                self._asked = asked
                self.post_message(self.WindowWanted(*asked))
        if not self.view.everything and (self._overview is None or len(self._overview[0]) != view.width):
            self.post_message(self.OverviewWanted(self.field.key, view.total, view.width))

    def render_lines(self, crop: Region) -> list[Strip]:
        """Styles are looked up once for all lines."""
        blank = self.rich_style
        styles = {name: blank + self.get_component_rich_style(name, partial=True) for name in STYLES}
        self._painter = Painter(
            self.field,
            self.view,
            self._window,
            self._overview,
            self.line,
            self.column,
            self.top,
            self.born_only,
            self.content_size,
            styles,
            blank,
        )
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """As it is painted."""
        return Strip.blank(self.content_size.width) if self._painter is None else self._painter.strip(y)

    def choose(self, line: int, column: int) -> None:
        """Put the cursor somewhere, as if by hand."""
        before = self.line, self.column
        self.put_cursor(line, column)
        after = self.line, self.column
        if after != before:
            self.post_message(self.Moved(*after, before[0] != after[0], before[1] != after[1]))

    def action_move(self, lines: int, columns: int) -> None:
        """By lines, and by characters however many columns they stand for."""
        x = self.view.x_of(self.column) + columns * self.view.wide
        along = self.view.column_at(x) if columns and self.view.per > 1 else None
        self.choose(self.line + lines, self.column + columns * self.view.per if along is None else along)

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
        """One click selects, two open; on the line over all it goes there."""
        offset = event.get_content_offset(self)
        if offset is None or not self.field.columns:
            return
        x, line = offset.x - self._gutter, self.top + (offset.y - HEAD) // self._tall
        if offset.y == self.content_size.height - 1:
            if not self.view.everything:
                self.choose(self.line, max(x, 0) * self.field.columns // max(self.view.width, 1))
            return
        column = self.view.column_at(x)
        if column is None or not 0 <= line < len(self.field.labels) or offset.y < HEAD:
            return
        self.choose(line, column)
        if event.chain == 2:
            self.post_message(self.Opened())

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

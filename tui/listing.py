"""A list of any length whose lines are made when they are seen: a screenful costs the same in a million.

It scrolls by itself: another number of lines is drawn, and nothing is arranged anew for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from detrec.tui import scroll

_MADE = 4096
_STEP, _NOTCH = 8, 3


class Listing(Widget, can_focus=True):
    """Lines with a cursor under a header that stays; a bar where not all of them are seen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Line up", show=False, key_display="↑"),
        Binding("down", "move(1)", "Line down", show=False, key_display="↓"),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "edge(0)", "First line", show=False),
        Binding("end", "edge(1)", "Last line", show=False),
        Binding("left", "shift(-1)", "Scroll left", show=False, key_display="←"),
        Binding("right", "shift(1)", "Scroll right", show=False, key_display="→"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "listing--cursor", "listing--cursor-blurred", "listing--header", "listing--bar",
    }  # fmt: skip

    cursor: reactive[int] = reactive(0, repaint=False)

    @dataclass
    class Moved(Message):
        """The cursor was put on a line by key or mouse."""

        listing: "Listing"
        line: int

    @dataclass
    class Opened(Message):
        """A line was clicked on twice."""

        listing: "Listing"

    def __init__(self, *, id: str, title: str) -> None:
        super().__init__(id=id)
        self.entitle(title)
        self.count = self.top = self.left = 0
        self._make: Callable[[int], Text] = lambda line: Text()
        self._make_header: Callable[[], Sequence[Text]] = tuple
        self._header: tuple[Text, ...] = ()
        self._made: dict[int, Strip] = {}
        self._made_for: tuple[Size, Style] | None = None
        self._blank = self._here = self._title = self._bar = Style()

    def entitle(self, title: str, find: str = "") -> None:
        """A title, which an id cannot mark up; and what the lines are kept by, if anything."""
        self.border_title = Text(f"{title}  /{find}" if find else title)

    def offer(
        self,
        count: int,
        make: Callable[[int], Text],
        *,
        header: Callable[[], Sequence[Text]] = tuple,
        cursor: int | None = None,
    ) -> None:
        """So many lines; `make` gives each when it is to be drawn, `header` those above them.

        They are made again for another width. A cursor of None stays where it is.
        """
        self.count, self._make, self._make_header = count, make, header
        self._made_for = None
        at = self.cursor if cursor is None else cursor
        self.set_reactive(Listing.cursor, max(min(at, count - 1), 0))
        self.refresh()

    def show(
        self,
        lines: Sequence[Text],
        *,
        header: Callable[[], Sequence[Text]] = tuple,
        cursor: int | None = None,
    ) -> None:
        """These lines."""
        self.offer(len(lines), lines.__getitem__, header=header, cursor=cursor)

    @property
    def plain(self) -> str:
        """Everything as text: what a reader of the whole list would see."""
        texts = [*self._make_header(), *map(self._make, range(self.count))]
        return "\n".join(text.plain.rstrip() for text in texts)

    @property
    def width(self) -> int:
        """Of a line; the last column is the bar's."""
        return max(self.content_size.width - 1, 0)

    @property
    def _room(self) -> int:
        """How many lines are seen."""
        return max(self.content_size.height - len(self._header), 0)

    def render_lines(self, crop: Region) -> list[Strip]:
        """What all lines need is looked up once for them."""
        blank = self._blank = self.rich_style
        if self._made_for != (self.content_size, blank):
            self._made_for, self._made = (self.content_size, blank), {}
            self._header = tuple(self._make_header())
            self.top = scroll.revealed(self.top, self.cursor, self._room, self.count)
            self.left = min(self.left, self._beyond)
        here = "listing--cursor" if self.has_focus else "listing--cursor-blurred"
        styles = (
            blank + self.get_component_rich_style(name, partial=True)
            for name in (here, "listing--header", "listing--bar")
        )
        self._here, self._title, self._bar = styles
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """The header stays where it is, lines pass under it; last comes the bar, or where lines go on."""
        row = y - len(self._header)
        last = "▐" if row in scroll.thumb(self.top, self._room, self.count) else " "
        if row < 0:
            style = self._title if row == -1 else self._blank
            strip = self._strip(self._header[y], style)
            if row == -1:
                # a value that is cut off looks like a whole one
                last = "→" if self.left < self._beyond else "←" if self.left else " "
        elif (line := self.top + row) >= self.count:
            strip, style = Strip([]), self._blank
        elif line == self.cursor:
            strip, style = self._strip(self._make(line), self._here, over=True), self._here
        else:
            strip, style = self._line(line), self._blank
        shown = strip.crop_extend(self.left, self.left + self.width, style)
        return Strip([*shown, Segment(last, self._title if row == -1 else self._bar)])

    def _strip(self, text: Text, style: Style, *, over: bool = False) -> Strip:
        none = Style.null()
        # rich drops the style of a text that has no spans
        parts = (text if text.spans else Text.assemble(text)).render(self.app.console)
        # under the cursor a line keeps its weights and has the cursor's colours
        return Strip(
            Segment(part, style + ((own or none).without_color if over else own or none))
            for part, own, _ in parts
            if part
        )

    def _line(self, index: int) -> Strip:
        if index not in self._made:
            if len(self._made) >= _MADE:
                self._made.clear()
            self._made[index] = self._strip(self._make(index), self._blank)
        return self._made[index]

    def watch_cursor(self, before: int, now: int) -> None:
        """Where it was, and where it is."""
        if not self._look_from(scroll.revealed(self.top, now, self._room, self.count)):
            rows = (len(self._header) + line - self.top for line in (before, now))
            self.refresh(*(Region(0, row, self.content_size.width, 1) for row in rows))

    def _look_from(self, top: int) -> bool:
        """Did that show other lines?"""
        top, before = scroll.settled(top, self._room, self.count), self.top
        self.top = top
        if top != before:
            self.refresh()
        return top != before

    def choose(self, line: int) -> None:
        """Put the cursor somewhere, as if by hand."""
        if self.count:
            self.cursor = min(max(line, 0), self.count - 1)
            self.post_message(self.Moved(self, self.cursor))

    def action_move(self, by: int) -> None:
        """Up or down."""
        self.choose(self.cursor + by)

    def action_page(self, by: int) -> None:
        """By what is seen."""
        self.choose(self.cursor + by * max(self._room - 1, 1))

    def action_edge(self, last: int) -> None:
        """To the first or the last line."""
        self.choose(self.count - 1 if last else 0)

    def action_shift(self, by: int) -> None:
        """Sideways, where lines are longer than the screen."""
        self.left = max(min(self.left + by * _STEP, self._beyond), 0)
        self.refresh()

    @property
    def _beyond(self) -> int:
        """How far the longest line that is seen reaches out of sight."""
        seen = range(self.top, min(self.top + self._room, self.count))
        lengths = [
            *(text.cell_len for text in self._header),
            *(self._line(line).cell_length for line in seen),
        ]
        return max(max(lengths, default=0) - self.width, 0)

    def on_click(self, event: events.Click) -> None:
        """One click selects, two open."""
        offset = event.get_content_offset(self)
        if offset is None or offset.x >= self.width:
            return
        line = self.top + offset.y - len(self._header)
        if offset.y >= len(self._header) and 0 <= line < self.count:
            self.choose(line)
            if event.chain == 2:
                self.post_message(self.Opened(self))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """The bar is taken hold of."""
        offset = event.get_content_offset(self)
        if offset is not None and offset.x == self.width:
            self.capture_mouse()
            self.on_mouse_move(event)

    def on_mouse_move(self, event: events.MouseEvent) -> None:
        """The bar follows."""
        if self.app.mouse_captured is self:
            row = event.y - self.gutter.top - len(self._header)
            self._look_from(scroll.top_of(row, self._room, self.count))

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """And is let go."""
        self.release_mouse()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The lines before; the cursor stays where it is."""
        self._wheel(event, -1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The lines behind."""
        self._wheel(event, 1)

    def on_mouse_scroll_left(self, event: events.MouseScrollLeft) -> None:
        """Sideways, as a wheel does whose key is held down."""
        self._wheel(event, -1, sideways=True)

    def on_mouse_scroll_right(self, event: events.MouseScrollRight) -> None:
        """And back."""
        self._wheel(event, 1, sideways=True)

    def _wheel(self, event: events.MouseEvent, by: int, *, sideways: bool = False) -> None:
        event.stop()
        if sideways or event.shift or event.ctrl:
            self.action_shift(by)
        else:
            self._look_from(self.top + by * _NOTCH)

    def on_focus(self) -> None:
        """The cursor shows who has the focus."""
        self.refresh()

    def on_blur(self) -> None:
        """And who has not."""
        self.refresh()

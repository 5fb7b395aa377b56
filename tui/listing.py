"""A list of any length whose lines are made when they are seen: a screenful costs the same in a million."""

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
from textual.scroll_view import ScrollView
from textual.strip import Strip

_MADE = 4096
_STEP = 8


class Listing(ScrollView, can_focus=True):
    """Lines with a cursor under a header that stays."""

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
    COMPONENT_CLASSES: ClassVar[set[str]] = {"listing--cursor", "listing--cursor-blurred", "listing--header"}

    cursor: reactive[int] = reactive(0)

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
        self.header: tuple[Text, ...] = ()
        self.count = 0
        self._make: Callable[[int], Text] = lambda line: Text()
        self._made: dict[int, Text] = {}
        self._width = 0
        self._blank = self._here = self._top = Style()

    def entitle(self, title: str, find: str = "") -> None:
        """A title, which an id cannot mark up; and what the lines are kept by, if anything."""
        self.border_title = Text(f"{title}  /{find}" if find else title)

    def offer(
        self,
        count: int,
        make: Callable[[int], Text],
        *,
        header: Sequence[Text] = (),
        cursor: int | None = None,
    ) -> None:
        """So many lines; `make` gives each when it is to be drawn. A cursor of None stays where it is."""
        self.count, self.header, self._make = count, tuple(header), make
        self._made, self._width = {}, max([0, *(line.cell_len for line in header)])
        self.virtual_size = Size(self._width, count + self._head)
        at = self.cursor if cursor is None else cursor
        self.set_reactive(Listing.cursor, max(min(at, count - 1), 0))
        self.refresh()
        self.call_after_refresh(self._reveal)

    def show(self, lines: Sequence[Text], *, header: Sequence[Text] = (), cursor: int | None = None) -> None:
        """These lines."""
        self.offer(len(lines), lines.__getitem__, header=header, cursor=cursor)

    @property
    def plain(self) -> str:
        """Everything as text: what a reader of the whole list would see."""
        texts = [*self.header, *map(self._line, range(self.count))]
        return "\n".join(text.plain.rstrip() for text in texts)

    def _line(self, index: int) -> Text:
        if index not in self._made:
            if len(self._made) >= _MADE:
                self._made.clear()
            text = self._made[index] = self._make(index)
            if text.cell_len > self._width:
                self._width = text.cell_len
        return self._made[index]

    def render_lines(self, crop: Region) -> list[Strip]:
        """Styles are looked up once for all lines."""
        blank = self.rich_style
        self._blank = blank
        here = "listing--cursor" if self.has_focus else "listing--cursor-blurred"
        self._here = blank + self.get_component_rich_style(here, partial=True)
        self._top = blank + self.get_component_rich_style("listing--header", partial=True)
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """The header stays where it is, lines pass under it."""
        blank = self._blank
        if y < self._head:
            return self._strip(self.header[y], self._top if y == self._head - 1 else blank)
        index = self.scroll_offset.y + y - self._head
        if not 0 <= index < self.count:
            return Strip.blank(self.scrollable_content_region.width, blank)
        if index != self.cursor:
            return self._strip(self._line(index), blank)
        return self._strip(self._line(index), self._here, over=True)

    def _strip(self, text: Text, style: Style, *, over: bool = False) -> Strip:
        # under the cursor a line keeps its weights and has the cursor's colours
        segments = [
            Segment(part, style + ((own or Style.null()).without_color if over else own or Style.null()))
            for part, own, _ in text.render(self.app.console, end="")
            if part
        ]
        left = self.scroll_offset.x
        return Strip(segments).crop_extend(left, left + self.scrollable_content_region.width, style)

    @property
    def _head(self) -> int:
        return len(self.header)

    def watch_cursor(self) -> None:
        """Where it was, and where it is."""
        self._reveal()
        self.refresh()

    def _reveal(self) -> None:
        height = self.scrollable_content_region.height - self._head
        top = self.scroll_offset.y
        if height <= 0 or top <= self.cursor < top + height:
            return
        if self.cursor == top - 1:
            top = self.cursor
        elif self.cursor == top + height:
            top += 1
        else:
            # what comes before and after is worth seeing
            top = self.cursor - height // 2
        self.scroll_to(y=top, animate=False, immediate=True)

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
        self.choose(self.cursor + by * max(self.scrollable_content_region.height - self._head - 1, 1))

    def action_edge(self, last: int) -> None:
        """To the first or the last line."""
        self.choose(self.count - 1 if last else 0)

    def action_shift(self, by: int) -> None:
        """Sideways, where lines are longer than the screen."""
        self.virtual_size = Size(self._width, self.count + self._head)
        self.scroll_to(x=self.scroll_offset.x + by * _STEP, animate=False, immediate=True)

    def on_click(self, event: events.Click) -> None:
        """One click selects, two open."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        line = self.scroll_offset.y + offset.y - self._head
        if offset.y >= self._head and 0 <= line < self.count:
            self.choose(line)
            if event.chain == 2:
                self.post_message(self.Opened(self))

    def on_resize(self) -> None:
        """The cursor stays in sight."""
        self._reveal()

    def on_focus(self) -> None:
        """The cursor shows who has the focus."""
        self.refresh()

    def on_blur(self) -> None:
        """And who has not."""
        self.refresh()

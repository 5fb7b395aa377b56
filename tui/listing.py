"""A list of any length that draws what is seen of it: a screenful costs the same in a million lines.

A list that is longer than a page asks for the lines it is about to draw; until they come it shows dots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from detrec.tui.palette import Palette

PAGE = 256
_PAGES = 32
_STEP = 8


class Listing(ScrollView, can_focus=True):
    """Lines with a cursor. `show` gives it all of them, `expect` a number of them to be asked for."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Line up", show=False),
        Binding("down", "move(1)", "Line down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "edge(0)", "First line", show=False),
        Binding("end", "edge(1)", "Last line", show=False),
        Binding("left", "shift(-1)", "Scroll left", show=False),
        Binding("right", "shift(1)", "Scroll right", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"listing--cursor", "listing--cursor-blurred", "listing--header"}

    cursor: reactive[int] = reactive(0)

    @dataclass
    class Moved(Message):
        """The cursor was put on a line by key or mouse."""

        listing: "Listing"
        line: int

        @property
        def control(self) -> "Listing":
            """Who says so."""
            return self.listing

    @dataclass
    class Opened(Message):
        """A line was clicked on twice."""

        listing: "Listing"
        line: int

    @dataclass
    class PageWanted(Message):
        """Lines [start, until) are about to be drawn: `put` them. `ticket` says for which list."""

        listing: "Listing"
        ticket: int
        start: int
        until: int

    def __init__(self, *, id: str, title: str) -> None:
        super().__init__(id=id)
        self.border_title = title
        self.header: tuple[Text, ...] = ()
        self.count = 0
        self.ticket = 0
        self._pages: dict[int, Sequence[Text]] = {}
        self._asked: set[int] = set()
        self._width = 0

    def show(self, lines: Sequence[Text], *, header: Sequence[Text] = (), cursor: int | None = None) -> None:
        """Replace everything."""
        self.expect(len(lines), header=header, cursor=cursor)
        self._pages = {0: lines} if len(lines) <= PAGE else {}
        if len(lines) > PAGE:
            self._pages = {at: lines[at * PAGE : (at + 1) * PAGE] for at in range(-(-len(lines) // PAGE))}
        self._measure(lines)

    def expect(self, count: int, *, header: Sequence[Text] = (), cursor: int | None = None) -> None:
        """A list of `count` lines that come as they are asked for."""
        self.ticket += 1
        self.count, self.header = count, tuple(header)
        self._pages, self._asked, self._width = {}, set(), max([0, *(line.cell_len for line in header)])
        self._measure(())
        at = self.cursor if cursor is None else cursor
        self.set_reactive(Listing.cursor, max(min(at, count - 1), 0))
        self.refresh()
        self.call_after_refresh(self._reveal)

    def page(self, palette: Palette, start: int, stop: int) -> Sequence[Text]:
        """Lines [start, stop) of a list that was told to expect them; called in a thread."""
        raise NotImplementedError

    def put(self, ticket: int, start: int, lines: Sequence[Text]) -> None:
        """The lines of a page that was asked for; those of a list that is gone are dropped."""
        if ticket != self.ticket:
            return
        while len(self._pages) >= _PAGES:
            oldest = next(iter(self._pages))
            del self._pages[oldest]
            self._asked.discard(oldest)
        self._pages[start // PAGE] = lines
        self._measure(lines)
        self.refresh()

    def line_text(self, index: int) -> Text | None:
        """A line's text, None where it is not there yet."""
        page = self._pages.get(index // PAGE)
        return None if page is None or index % PAGE >= len(page) else page[index % PAGE]

    @property
    def plain(self) -> str:
        """Everything that is loaded, as text: what a reader of the whole pane would see."""
        texts = [*self.header]
        texts += [text for text in map(self.line_text, range(self.count)) if text is not None]
        return "\n".join(text.plain.rstrip() for text in texts)

    def render_line(self, y: int) -> Strip:
        """The header stays where it is, lines pass under it."""
        blank = self.rich_style
        width = self.scrollable_content_region.width
        left = self.scroll_offset.x
        if y < self._head:
            style = blank + self.get_component_rich_style("listing--header", partial=True)
            return self._strip(self.header[y], left, width, style if y == self._head - 1 else blank)
        index = self.scroll_offset.y + y - self._head
        if not 0 <= index < self.count:
            return Strip.blank(width, blank)
        text = self.line_text(index)
        if text is None:
            self._ask(index)
            text = Text("...")
        style = blank
        if index == self.cursor:
            # what a line says by colour it still says under the cursor
            name = "listing--cursor" if self.has_focus else "listing--cursor-blurred"
            style = blank + self.get_component_rich_style(name, partial=True)
        return self._strip(text, left, width, style, over=index == self.cursor)

    def _strip(self, text: Text, left: int, width: int, style: Style, *, over: bool = False) -> Strip:
        # under the cursor a line keeps its weights and has the cursor's colours
        kept = _uncoloured if over else _as_it_is
        segments = [
            Segment(part, style + kept(own or Style.null()))
            for part, own, _ in text.render(self.app.console, end="")
            if part
        ]
        return Strip(segments).crop_extend(left, left + width, style)

    @property
    def _head(self) -> int:
        return len(self.header)

    def _measure(self, lines: Sequence[Text]) -> None:
        self._width = max([self._width, *(text.cell_len for text in lines)])
        self.virtual_size = Size(self._width, self.count + self._head)

    def _ask(self, index: int) -> None:
        page = index // PAGE
        if page not in self._asked:
            self._asked.add(page)
            start = page * PAGE
            # not from here: what is posted while the screen draws does not come further than the screen
            self.call_next(self._want, self.ticket, start, min(start + PAGE, self.count))

    def _want(self, ticket: int, start: int, until: int) -> None:
        self.post_message(self.PageWanted(self, ticket, start, until))

    def watch_cursor(self, old: int, new: int) -> None:
        """Only two lines change."""
        self._reveal()
        self.refresh()

    def _reveal(self) -> None:
        height = self.scrollable_content_region.height - self._head
        if height <= 0:
            return
        top = self.scroll_offset.y
        far = not top - 1 <= self.cursor <= top + height
        if far:
            # what comes before and after is worth seeing
            self.scroll_to(y=self.cursor - height // 2, animate=False, immediate=True)
        elif self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, immediate=True)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False, immediate=True)

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
                self.post_message(self.Opened(self, line))

    def on_resize(self) -> None:
        """The cursor stays in sight."""
        self._reveal()

    def on_focus(self) -> None:
        """The cursor shows who has the focus."""
        self.refresh()

    def on_blur(self) -> None:
        """And who has not."""
        self.refresh()


def _as_it_is(style: Style) -> Style:
    return style


def _uncoloured(style: Style) -> Style:
    return style.without_color

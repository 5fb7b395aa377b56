"""A text over the screen, whole, until any key."""

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from detrec.tui.palette import Palette


class Notice(ModalScreen[None]):
    """A title and a text to read or to copy."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Close")]

    def __init__(self, title: str, text: str, palette: Palette) -> None:
        super().__init__()
        self._title, self._text, self._palette = title, text, palette

    def compose(self) -> ComposeResult:
        """The text, wrapped."""
        box = VerticalScroll(Static(Text(self._text, self._palette.strong)))
        box.border_title = self._title
        box.border_subtitle = "any key closes"
        yield box

    def on_key(self, event: events.Key) -> None:
        """Any of them."""
        event.stop()
        self.dismiss()

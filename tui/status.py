"""The line above the keys: where one stands, or what there is to say."""

from rich.style import Style
from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

_SECONDS = 8.0


class Status(Widget):
    """The way down to the cell; a message takes its place until the next move or for some seconds."""

    way: reactive[Text] = reactive(Text())
    said: reactive[Text | None] = reactive(None)

    def say(self, text: Text, *, lasting: bool = False) -> None:
        """Show a message; a `lasting` one stays until something else is said."""
        self.said = text
        self._turn = getattr(self, "_turn", 0) + 1
        turn = self._turn
        if not lasting:
            self.set_timer(_SECONDS, lambda: self.hush(turn))

    def say_text(self, text: str, style: Style, *, lasting: bool = False) -> None:
        """The same of a plain text."""
        self.say(Text(text, style), lasting=lasting)

    def hush(self, turn: int | None = None) -> None:
        """Back to the way, unless something else has been said since `turn`."""
        if turn is None or turn == getattr(self, "_turn", 0):
            self.said = None

    def render(self) -> Text:
        """One line of either."""
        text = (self.way if self.said is None else self.said).copy()
        text.no_wrap, text.overflow = True, "ellipsis"
        return text

"""The line above the keys: where one stands, or what there is to say."""

from rich.style import Style
from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

_SECONDS = 8.0


class Status(Widget):
    """The way down to the cell; a message takes its place until the next move or for some seconds."""

    way: reactive[Text] = reactive(Text())
    said: reactive[Text | None] = reactive(None, layout=True)

    _turn = 0

    def say(self, text: str, style: Style, *, lasting: bool = False) -> None:
        """Show a message; a `lasting` one stays until something else is said."""
        self.said = Text(text, style)
        self._turn += 1
        if not lasting:
            turn = self._turn
            self.set_timer(_SECONDS, lambda: self.hush(turn))

    def hush(self, turn: int | None = None) -> None:
        """Back to the way, unless something else has been said since `turn`."""
        if turn is None or turn == self._turn:
            self.said = None

    def render(self) -> Text:
        """One line of the way, or the whole of what is said."""
        if self.said is not None:
            return self.said
        way = self.way.copy()
        way.truncate(max(self.size.width - 2, 1), overflow="ellipsis")
        return way

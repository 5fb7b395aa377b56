"""One line that names the panes: which one is in front, and a place to click for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget


class Tabs(Widget):
    """Names in a row; a number before each is its key."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"tabs--here", "tabs--other"}

    here: reactive[str] = reactive("")

    @dataclass
    class Chosen(Message):
        """A name was clicked."""

        pane: str

    def __init__(self, names: Sequence[tuple[str, str]], *, id: str) -> None:
        super().__init__(id=id)
        self.names = tuple(names)

    def render(self) -> Text:
        """As many letters of each name as there is room for."""
        text = Text(no_wrap=True, overflow="crop")
        for start, _, pane, label in self._spans():
            text.append(" " * (start - text.cell_len))
            style = "tabs--here" if pane == self.here else "tabs--other"
            text.append(label, self.get_component_rich_style(style, partial=True))
        return text

    def _spans(self) -> list[tuple[int, int, str, str]]:
        for longest, pad in ((99, " "), (99, ""), (5, ""), (3, ""), (0, "")):
            spans, at = [], 0
            for number, (pane, name) in enumerate(self.names, 1):
                label = f"{pad}{number} {name[:longest]}".rstrip() + pad
                spans.append((at, at + len(label), pane, label))
                at += len(label) + 1
            if at <= self.size.width:
                break
        return spans

    def on_click(self, event: events.Click) -> None:
        """Which one was hit?"""
        for start, stop, pane, _ in self._spans():
            if start <= event.x < stop:
                self.post_message(self.Chosen(pane))

"""The last line: as many keys as fit, the most wanted first. Each can be clicked."""

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.widget import Widget

from detrec.tui.keymap import shown_key


class Keys(Widget):
    """Bindings in a row."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"keys--key", "keys--name"}

    def __init__(self, bindings: list[Binding], *, id: str) -> None:
        super().__init__(id=id)
        self.shown = bindings

    def _spans(self) -> list[tuple[int, int, Binding]]:
        spans, at = [], 1
        for binding in self.shown:
            width = len(shown_key(binding)) + 1 + len(binding.description)
            if at + width > self.size.width:
                break
            spans.append((at, at + width, binding))
            at += width + 2
        return spans

    def render(self) -> Text:
        """Key and what it does."""
        text = Text(" ", no_wrap=True, overflow="crop")
        key, name = (self.get_component_rich_style(f"keys--{part}", partial=True) for part in ("key", "name"))
        for _, _, binding in self._spans():
            text.append(shown_key(binding), key)
            text.append(f" {binding.description}  ", name)
        return text

    async def on_click(self, event: events.Click) -> None:
        """As if the key had been pressed."""
        for start, stop, binding in self._spans():
            if start <= event.x < stop:
                await self.app.run_action(binding.action)

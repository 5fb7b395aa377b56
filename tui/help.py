"""Every key and what it does, made from the bindings themselves."""

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from detrec.tui.heatmap import HeatMap
from detrec.tui.keymap import KEYMAP, SECTIONS, shown_key
from detrec.tui.listing import Listing
from detrec.tui.palette import Palette
from detrec.tui.states import LOOKS

_WIDE = 140
_MARKS = (
    ("r3[0:16)*", "a slice: positions 0 to 15, a token drawn from the last"),
    ("→ ←", "a list: its lines go on to that side"),
    ("░▒▓█", "elements: rows x columns, and how much differs"),
    ("▼", "the map: a divergence was born there"),
)


class Help(ModalScreen[None]):
    """Any of its keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "dismiss", "Close")]

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self._palette = palette

    def compose(self) -> ComposeResult:
        """Two texts to scroll in, beside each other where there is room."""
        self.set_class(self.app.size.width >= _WIDE, "-wide")
        box = VerticalScroll(*(Static(text) for text in (keys_text(self._palette), own_text(self._palette))))
        box.border_title = "Keys"
        box.border_subtitle = "esc closes"
        yield box

    def on_resize(self, event: events.Resize) -> None:
        """There may be room now."""
        self.set_class(event.size.width >= _WIDE, "-wide")


def keys_text(palette: Palette) -> Text:
    """By section."""
    text = Text()
    for section, title in SECTIONS.items():
        text.append(f"\n{title}\n", palette.label)
        for binding in KEYMAP:
            if (binding.id or "").startswith(f"{section}."):
                _line(text, shown_key(binding), binding.tooltip, palette)
        if section == "look":
            _line(text, "1 to 9", "a pane by its number", palette)
    return text


def own_text(palette: Palette) -> Text:
    """The widgets' own keys, then what the symbols mean."""
    text = Text()
    for title, widget in (("In the map", HeatMap), ("In a list", Listing)):
        text.append(f"\n{title}\n", palette.label)
        for own in widget.BINDINGS:
            assert isinstance(own, Binding)
            _line(text, shown_key(own), own.description.lower(), palette)
    text.append(
        "\nThe mouse selects, opens with two clicks, and scrolls or zooms with the wheel.\n", palette.quiet
    )
    text.append("\nCells\n", palette.label)
    for look in LOOKS[1:]:
        text.append("  ").append_text(palette.symbol(look.state)).append(f" {look.word:10} ")
        text.append(f"{look.meaning}\n", palette.quiet)
    text.append("\nMarks\n", palette.label)
    for mark, meaning in _MARKS:
        text.append(f"  {mark:10}", palette.strong).append(f"{meaning}\n", palette.quiet)
    return text


def _line(text: Text, key: str, what: str, palette: Palette) -> None:
    text.append(f"  {key:10}", palette.strong).append(f"{what}\n")

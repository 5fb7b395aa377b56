"""Every key and what it does, made from the bindings themselves."""

from typing import ClassVar

from rich.text import Text
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


class Help(ModalScreen[None]):
    """Any of its keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark,enter", "dismiss", "Close")]

    def __init__(self, palette: Palette) -> None:
        super().__init__()
        self._palette = palette

    def compose(self) -> ComposeResult:
        """One text to scroll in."""
        box = VerticalScroll(Static(help_text(self._palette)))
        box.border_title = "Keys"
        box.border_subtitle = "esc closes"
        yield box


def help_text(palette: Palette) -> Text:
    """By section, then the widgets' own keys, then what the symbols mean."""
    text = Text()
    for section, title in SECTIONS.items():
        text.append(f"\n{title}\n", palette.label)
        for binding in KEYMAP:
            if (binding.id or "").startswith(f"{section}."):
                _line(text, shown_key(binding), binding.tooltip, palette)
        if section == "look":
            _line(text, "1 to 9", "a pane by its number", palette)
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
    text.append("\nIn the schedule a token is drawn from the last row of a slice with a *.\n", palette.quiet)
    return text


def _line(text: Text, key: str, what: str, palette: Palette) -> None:
    text.append(f"  {key:10}", palette.strong).append(f"{what}\n")

"""Styles for text that is put together line by line, taken from the theme's variables."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

from detrec.tui.states import LOOKS

_VARIABLES = (
    "quiet", "primary", "success", "state-equal", "state-missing", "state-inherited", "state-born", "error",
    "warning", "foreground",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Palette:
    """`states[state]` and a few roles. Where there is no colour, weight and reverse tell them apart."""

    states: tuple[Style, ...]
    quiet: Style
    strong: Style
    label: Style
    good: Style
    bad: Style
    warn: Style
    changed: Style

    def symbol(self, state: int) -> Text:
        """One character."""
        return Text(LOOKS[state].symbol if LOOKS[state].symbol != " " else "-", self.states[state])

    def named(self, state: int) -> Text:
        """Symbol and name."""
        return Text.assemble(self.symbol(state), " ", (LOOKS[state].word, self.states[state]))


def palette_of(variables: Mapping[str, str], *, colour: bool) -> Palette:
    """From a theme's variables, or of bold, dim and reverse alone."""
    if not colour:
        plain, dim, bold = Style(), Style(dim=True), Style(bold=True)
        states = (
            dim,
            plain,
            dim,
            Style(underline=True),
            Style(underline=True, bold=True),
            plain,
            Style(bold=True),
        )
        return Palette(states, dim, bold, bold, plain, bold, bold, Style(bold=True, underline=True))
    colours = {name: Style(color=variables[name]) for name in _VARIABLES}
    quiet, equal = colours["quiet"], colours["state-equal"]
    born = colours["state-born"]
    states = (
        quiet, equal, equal, colours["state-missing"], colours["error"] + Style(bold=True),
        colours["state-inherited"], born + Style(bold=True),
    )  # fmt: skip
    return Palette(
        states=states,
        quiet=quiet,
        strong=colours["foreground"] + Style(bold=True),
        label=colours["primary"],
        good=colours["success"],
        bad=born + Style(bold=True),
        warn=colours["warning"],
        changed=colours["state-inherited"] + Style(bold=True),
    )

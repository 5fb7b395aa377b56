"""The part of the explorer that arranges: which panes are seen, which has the focus, and what is said."""

from typing import Any

from textual.app import App
from textual.message import Message
from textual.widget import Widget

from detrec.tui import layout
from detrec.tui.ask import Ask
from detrec.tui.palette import Palette, palette_of
from detrec.tui.stand import Depth
from detrec.tui.status import Status
from detrec.tui.tabs import Tabs


class Framing(App[None]):
    """`depth`: the pane in front and what the map shows. `beside`: the last in front of layout.BESIDE."""

    colour = True
    depth = Depth()
    beside = "cause"
    plan = layout.Layout(split=False)

    @property
    def palette(self) -> Palette:
        """The theme's styles."""
        return palette_of(self.theme_variables, colour=self.colour)

    def check_message_enabled(self, message: Message) -> bool:
        """What a thread or a widget has to say to an explorer whose screen is gone is not heard."""
        ours = type(message).__module__.startswith("detrec.")
        return (not ours or bool(self.screen_stack)) and super().check_message_enabled(message)

    def part(self, kind: type[Any]) -> Any:
        """The one widget of its kind on the explorer's own screen, whatever lies over it."""
        return self.screen_stack[0].query_one(kind)

    def pane(self, name: str) -> Widget:
        """The pane of that name."""
        return self.screen_stack[0].query_one(f"#{name}")

    def arrange(self) -> None:
        """Show the panes that the layout and the pane in front ask for, and put the focus there."""
        pane = self.depth.pane
        if pane in layout.BESIDE:
            self.beside = pane
        shown = self.plan.shown(pane, self.beside)
        screen = self.screen_stack[0]
        screen.set_class(not self.plan.split, "-single")
        for name, _ in layout.PANES:
            self.pane(name).display = name in shown
        for side in ("left", "right"):
            box = self.pane(side)
            box.display = any(child.display for child in box.children)
        self.part(Tabs).here = pane
        if not self.part(Ask).has_class("-open"):
            self.pane(pane).focus()

    def say(self, text: str, *, bad: bool = False, lasting: bool = False) -> None:
        """A message on the line above the keys."""
        palette = self.palette
        self.part(Status).say(text, palette.bad if bad else palette.warn, lasting=lasting)

    def hush(self) -> None:
        """What was said is over."""
        self.part(Status).hush()

"""The line in which a text is asked for: what to find, or where to go."""

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Label


class Ask(Widget):
    """Opens for one text and closes again; `Typed` comes at every letter, `Answered` at the end."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave it", show=False, priority=True)
    ]

    @dataclass
    class Typed(Message):
        """The text by now."""

        what: str
        text: str

    @dataclass
    class Answered(Message):
        """The text, None where it was left."""

        what: str
        text: str | None

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._what = ""

    def compose(self) -> ComposeResult:
        """A sign and a line to write in."""
        yield Label()
        line = Input(compact=True)
        # nothing is to be drawn while nothing happens
        line.cursor_blink = False
        yield line

    def open(self, what: str, sign: str, hint: str, text: str = "") -> None:
        """Ask."""
        self._what = what
        self.query_one(Label).update(sign)
        line = self.query_one(Input)
        line.placeholder = hint
        self.add_class("-open")
        with line.prevent(Input.Changed):
            line.value = text
        # not when there is time for it: the letters that were typed behind the key are the text's
        self.screen.set_focus(line)

    def on_input_changed(self, event: Input.Changed) -> None:
        """A letter more or less."""
        event.stop()
        self.post_message(self.Typed(self._what, event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Done."""
        event.stop()
        self._close(event.value)

    def action_leave(self) -> None:
        """Never mind."""
        self._close(None)

    def _close(self, text: str | None) -> None:
        self.remove_class("-open")
        self.post_message(self.Answered(self._what, text))

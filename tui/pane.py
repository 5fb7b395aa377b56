"""A list that reads its own facts: `read` in a thread, `show_read` on the screen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from rich.text import Text
from textual.message import Message

from detrec.replayer.survey.survey import Survey
from detrec.tui.listing import Listing
from detrec.tui.moves import Move
from detrec.tui.palette import Palette
from detrec.tui.stand import Place

T = TypeVar("T")


class Pane(Listing):
    """What a pane of the explorer has to answer besides. `find` is what its lines are to hold."""

    find = ""
    fits: ClassVar[bool] = False
    """Does what it reads or shows depend on its width?"""

    _width = 0

    @dataclass
    class Widened(Message):
        """One that `fits` has another width."""

        pane: "Pane"

    def on_resize(self) -> None:
        """It is to be read for the width there is."""
        if self.fits and self.size.width != self._width:
            self._width = self.size.width
            self.post_message(self.Widened(self))

    def read(self, survey: Survey, place: Place) -> Any:
        """The facts that it shows; called in a thread, touches nothing of the widget."""
        raise NotImplementedError

    def expect_find(self, survey: Survey) -> None:
        """A text is about to be typed that its lines are to hold; called in a thread."""

    def show_read(self, facts: Any, palette: Palette, *, find: str) -> None:
        """Show them: the lines that hold `find`."""
        raise NotImplementedError

    def way_in(self) -> Move | str:
        """Where enter leads from the line under the cursor, or what there is to say."""
        return "this is as deep as it gets"


def holding(items: Sequence[T], line: Callable[[T], Text], find: str) -> Sequence[T]:
    """The items whose line holds `find`; where that is nothing, all of them, and no line is made."""
    wanted = find.lower()
    return [item for item in items if wanted in line(item).plain.lower()] if wanted else items

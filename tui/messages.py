"""What the explorer's threads post: they touch no widget."""

from dataclasses import dataclass

from rich.text import Text
from textual.message import Message

from detrec.replayer.survey.rows import Row, RowOfOp
from detrec.replayer.survey.survey import Survey
from detrec.tui.stand import Place


@dataclass
class Opened(Message):
    """The traces were opened, or could not be."""

    survey: Survey


@dataclass
class Compared(Message):
    """The runs were compared, as far as they could be."""


@dataclass
class Grown(Message):
    """A trace has grown or was closed, and was opened anew."""


@dataclass
class Arrived(Message):
    """The moves that were wanted were made: where they led, and what is to be seen there."""

    place: Place
    row: Row | None
    rows: tuple[RowOfOp, ...]


@dataclass
class Said(Message):
    """Something for the reader."""

    text: str | Text
    bad: bool = False

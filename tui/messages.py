"""What the explorer's threads post: they touch no widget."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from textual.message import Message

from detrec.replayer.divergence import Divergence
from detrec.replayer.survey.rows import Row, RowOfOp
from detrec.replayer.survey.survey import Survey
from detrec.tui.field import Shown
from detrec.tui.pane import Pane
from detrec.tui.stand import Place


@dataclass
class Opened(Message):
    """The traces were opened, or could not be."""

    survey: Survey


@dataclass
class Compared(Message):
    """The runs were compared, as far as they could be."""


@dataclass
class Sighted(Message):
    """The first divergence was met, which may be long before all is compared."""

    first: Divergence


@dataclass
class Progressed(Message):
    """How far something that takes its time has come."""

    what: str
    done: int
    total: int


@dataclass
class Grown(Message):
    """A trace that had so many steps has grown or was closed, and was opened anew."""

    steps: int


@dataclass
class Arrived(Message):
    """The first `moves` moves that were wanted were made: where they led, and what is to be seen there."""

    moves: int
    place: Place
    row: Row | None
    rows: tuple[RowOfOp, ...]


@dataclass
class Said(Message):
    """Something for the reader."""

    text: str
    bad: bool = False


@dataclass
class Charted(Message):
    """A window of the map was read."""

    window: Shown


@dataclass
class Overviewed(Message):
    """The line under the map that `key` names was read: see `HeatMap.put_overview`."""

    key: object
    density: np.ndarray
    born: np.ndarray


@dataclass
class Filled(Message):
    """The facts that a pane asked for, and the text that its lines are to hold."""

    pane: Pane
    facts: Any
    find: str


@dataclass
class Underway(Message):
    """How far an act has come: `done` of `total` of one of its steps."""

    what: str
    step: str
    done: int
    total: int


@dataclass
class Acted(Message):
    """An act has ended; `ending` is what there is left to do on the screen, None where it failed."""

    ending: Callable[[], None] | None

"""The lines of a heat map as strips: numbers and styles in, text out.

Pure: no widget, no trace. A cell's state is an index of the `looks` that are passed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from detrec.tui.viewport import Viewport

_TICK = 10
_BLOCKS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Look:
    """How a state looks: its character, its style, and its style on the cursor's line or column."""

    symbol: str
    style: Style
    crossed: Style


def cells(
    states: np.ndarray,
    looks: Sequence[Look],
    view: Viewport,
    *,
    crossed: bool,
    cursor: int | None,
    hot: Style,
) -> list[Segment]:
    """One line of states, uint8 [bins], from the viewport's first column on; `cursor` is a bin of it.

    `crossed`: the whole line is the cursor's. The cell of the cursor itself, then, has the style `hot`.
    """
    segments: list[Segment] = []
    count = min(len(states), view.bins)
    at, column = 0, -1 if cursor is None else cursor
    while at < count:
        state = int(states[at])
        stop = at + 1
        if at != column:
            while stop < count and stop != column and states[stop] == state:
                stop += 1
        look = looks[state]
        style = look.crossed if crossed or at == column else look.style
        if crossed and at == column:
            style = hot
        segments.append(Segment(_text(look.symbol, stop - at, view.wide), style))
        at = stop
    return segments


def _text(symbol: str, count: int, wide: int) -> str:
    # a thin symbol stands in the middle of its cell, a block fills it
    cell = symbol * wide if symbol in "█▒" else symbol.center(wide)
    return cell * count


def ruler(view: Viewport, cursor: int, plain: Style, hot: Style) -> list[Segment]:
    """Column numbers at round distances, and the cursor's own number over all of them."""
    line = [" "] * view.width
    step = _round(max(view.shown * _TICK // view.width, 1))
    first = -(-view.start // step) * step
    for column in range(first, view.stop, step):
        _write(line, view.x_of(column), f"{column:,}" if step >= 1000 else str(column))
    label = str(cursor)
    x = view.x_of(cursor)
    if not 0 <= x < view.width:
        return [Segment("".join(line), plain)]
    x = min(x, view.width - len(label))
    before, after = "".join(line[:x]), "".join(line[x + len(label) :])
    # a number cut in two by the cursor's would be a wrong number
    before = before.rstrip("0123456789,").ljust(x) if before[-1:].strip() else before
    cut = len(after) - len(after.lstrip("0123456789,"))
    return [Segment(before, plain), Segment(label, hot), Segment(" " * cut + after[cut:], plain)]


def marks(columns: np.ndarray, view: Viewport, style: Style) -> list[Segment]:
    """Where divergences were born, int64 [columns]."""
    line = np.full(view.width, " ")
    seen = columns[(columns >= view.start) & (columns < view.stop)]
    if len(seen):
        line[view.x_of(seen)] = "▼"
    return [Segment("".join(line.tolist()), style)]


def minimap(
    density: np.ndarray, view: Viewport, plain: Style, inside: Style, marked: Style, born: np.ndarray
) -> list[Segment]:
    """The whole length in one line: how much diverges, float [width] of 0 to 1, and where the screen is.

    `born` bool [width]: is a divergence born under this character?
    """
    scale = view.total / max(view.width, 1)
    first, last = int(view.start / scale), int((view.stop - 1) / scale) if view.total else 0
    segments = []
    for x, value in enumerate(density):
        block = _BLOCKS[0 if value <= 0 else 1 + min(int(value * 8), 7)]
        style = (marked if born[x] else plain) + (inside if first <= x <= last else Style.null())
        segments.append(Segment(block, style))
    return segments


def fitted(segments: list[Segment], width: int, blank: Style) -> Strip:
    """A strip of exactly this width."""
    return Strip(segments).adjust_cell_length(width, blank).simplify()


def _round(least: int) -> int:
    """The next of 10, 20, 50, 100, ..."""
    power = 10
    while True:
        for factor in (1, 2, 5):
            if factor * power >= least:
                return factor * power
        power *= 10


def _write(line: list[str], x: int, text: str) -> None:
    if x + len(text) <= len(line) and (x == 0 or line[x - 1] == " "):
        line[x : x + len(text)] = text

"""Facts turned into shapes: rectangles of a heat map, points of a line. Sizes in pixels of a
drawing's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from detrec.story.maps import LETTERS

LABEL, PLOT, LINE, TICKS = 132, 640, 16, 26
_STATE = {letter: state.name.lower() for state, letter in LETTERS.items()}


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Cells of one state beside each other; `title` says where they are."""

    x: float
    y: float
    width: float
    height: float
    state: str
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on the axis below."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A heat map, ready to be drawn: `labels` are (y of the middle, text)."""

    width: int
    height: int
    plot_height: int
    title: str
    axis: str
    labels: tuple[tuple[float, str], ...]
    rectangles: tuple[Rectangle, ...]
    ticks: tuple[Tick, ...]


def heat_map(facts: Mapping[str, Any]) -> Drawing:
    """The drawing of one of `maps`."""
    edges, lines, labels = facts["edges"], facts["lines"], facts["labels"]
    columns = max(len(edges) - 1, 1)
    size = PLOT / columns
    of = "" if facts["request"] is None else f" of {facts['request']}"
    rectangles = []
    for line, letters in enumerate(lines):
        column = 0
        for letter, run in groupby(letters):
            count = len(list(run))
            state = _STATE[letter]
            if state != "absent":
                first, last = edges[column], edges[column + count] - 1
                where = f"{facts['axis']} {first}" + (f" to {last}" if last > first else "")
                rectangles.append(
                    Rectangle(
                        round(LABEL + column * size, 2),
                        line * LINE + 1,
                        round(count * size, 2),
                        LINE - 2,
                        state,
                        f"{labels[line]}: {state}, {where}",
                    )
                )
            column += count
    height = LINE * len(lines)
    return Drawing(
        LABEL + PLOT + 8,
        height + TICKS,
        height,
        f"layers against {facts['axis']}{of}",
        facts["axis"].removesuffix("s"),
        tuple((LINE * (line + 0.5), label) for line, label in enumerate(labels)),
        tuple(rectangles),
        _ticks(edges),
    )


def _ticks(edges: Sequence[int]) -> tuple[Tick, ...]:
    """Round numbers, at most eight of them."""
    if len(edges) < 2:
        return ()
    start, stop = edges[0], edges[-1]
    step = next(
        step
        for power in range(12)
        for step in (10**power, 2 * 10**power, 5 * 10**power)
        if (stop - start) <= 8 * step
    )
    first = -(-start // step) * step
    scale = PLOT / (stop - start)
    return tuple(
        Tick(round(LABEL + (place - start) * scale, 2), str(place)) for place in range(first, stop, step)
    )


def line_of(values: Sequence[int], most: int, width: int, height: int) -> str:
    """The points of a stepped line through `values`, 0 to `most` from the bottom up, as SVG wants them."""
    points = []
    size = width / max(len(values), 1)
    for index, value in enumerate(values):
        y = round(height - height * value / max(most, 1), 2)
        points += [f"{round(index * size, 2)},{y}", f"{round((index + 1) * size, 2)},{y}"]
    return " ".join(points)

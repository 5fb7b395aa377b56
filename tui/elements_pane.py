"""The elements of one row of an op in both runs, and a picture of where in the tensor they differ.

A trace holds no tensors: they are shown where they were kept or have been derived again.
"""

from dataclasses import dataclass, fields
from functools import partial

import numpy as np
from rich.text import Text

from detrec.replayer.survey.draws import Draw
from detrec.replayer.survey.survey import Survey
from detrec.replayer.survey.tensors import Element
from detrec.tui import words
from detrec.tui.moves import Move
from detrec.tui.palette import Palette
from detrec.tui.pane import Pane, holding
from detrec.tui.stand import Place
from detrec.tui.table import Column, Table

UNITS = {"ulp": "ULP", "difference": "difference", "bits": "bits"}
"""What the last column has, by name: the key u goes round."""

_WIDE = {"ulp": 13, "difference": 16, "bits": 0}

_SHADES = " ░▒▓█"
_TALL, _LOW = 6, 3
_SIDES = (Column("recorded", 15, right=True), Column("replayed", 15, right=True))


@dataclass(frozen=True, slots=True)
class Facts:
    """Of the op `name`: `elements` of a row, and a `picture` of all: line `mark` has that row.

    Or the two `draws` from the row; or `why` there is neither, and what is to be done.
    """

    name: str
    why: str = ""
    elements: tuple[Element, ...] = ()
    picture: np.ndarray | None = None
    mark: int = 0
    width: int = 0
    draws: tuple[Draw | None, Draw | None] | None = None


class ElementsPane(Pane):
    """One line an element that differs; all of them where none does."""

    fits = True

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, title="Elements")
        self.unit = "ulp"

    def read(self, survey: Survey, place: Place) -> Facts:
        """The row's elements, if the op's tensors are at hand."""
        cell, runs = place.cell, survey.runs
        if cell is None or runs is None:
            return Facts("", "no cell is chosen")
        name = runs.ops[cell.op]
        if name == "sampled":
            row = survey.row(cell)
            drawn = tuple(None if side is None else side.draw for side in (row.recorded, row.replayed))
            return Facts(name, draws=(drawn[0], drawn[1]))
        if survey.other is None:
            return Facts(name, "one run alone: there is no other to take elements of; r replays it")
        kept = survey.tensors()
        if kept is not None and kept.op not in runs.ops and kept.steps[0] == cell.step:
            # an op that the trace does not have, in which a divergence was found to be born
            name = kept.op
        if kept is None or kept.op != name or kept.steps[0] != cell.step:
            return Facts(name, f"no tensors of {name} in step {cell.step}: g derives them again")
        output = kept.named("output")
        if output is None or not output.comparable:
            return Facts(name, f"the outputs of {name} are not of one shape: they cannot be compared")
        here = cell.request, cell.position
        if here not in output.places:
            return Facts(name, f"{words.place(cell)} is not a row of the tensors at hand")
        row_of = output.places.index(here)
        high = _TALL if self.content_size.height >= 20 else _LOW
        picture = output.picture(high, max(self.width - 3, 8))
        ours = output.recorded
        assert ours is not None, "it is comparable"
        mark = row_of * len(picture) // len(ours)
        return Facts(name, "", output.elements(row_of), picture, mark, 8 * ours.dtype.itemsize)

    def show_read(self, facts: Facts, palette: Palette, *, find: str) -> None:
        """Under a picture of the whole tensor; or the two draws, field by field."""
        self.entitle(f"Elements of {facts.name}" if facts.name else "Elements", find)
        self.border_subtitle = ""
        if facts.draws is not None:
            self._show_draws(*facts.draws, palette=palette, find=find)
        elif facts.picture is None:
            self.show([Text(f" {facts.why}", palette.quiet)])
        else:
            self._show_elements(facts, palette, find)

    def _show_elements(self, facts: Facts, palette: Palette, find: str) -> None:
        unit = Column(UNITS[self.unit], _WIDE[self.unit], right=self.unit != "bits")
        table = Table((Column("", 1), Column("column", 6, right=True), *_SIDES, unit))
        differ = sum(element.differs for element in facts.elements)
        line = partial(_line, table, unit=self.unit, width=facts.width, palette=palette)
        some = [element for element in facts.elements if element.differs] or facts.elements
        shown = holding(some, line, find)
        self.border_subtitle = f"{differ:,} of {len(facts.elements):,} differ in row ▸"
        header = [*_picture(facts, palette), table.header()]
        self.offer(len(shown), lambda at: line(shown[at]), header=lambda: header)

    def _show_draws(self, ours: Draw | None, theirs: Draw | None, *, palette: Palette, find: str) -> None:
        table = Table((Column("", 1), Column("drawn", 8), *_SIDES))
        lines = []
        for field in fields(Draw):
            sides = [None if draw is None else getattr(draw, field.name) for draw in (ours, theirs)]
            differ = None not in sides and sides[0] != sides[1]
            shown = ["-" if side is None else _value(side) for side in sides]
            style = palette.changed if differ else palette.quiet
            mark = Text("≠" if differ else " ", palette.changed)
            lines.append(table.line(mark, field.name, shown[0], Text(shown[1], style)))
        self.show([*holding(lines, lambda line: line, find)], header=lambda: [table.header()])

    def way_in(self) -> Move | str:
        """There is nothing below."""
        return "an element is as deep as it gets"


def _picture(facts: Facts, palette: Palette) -> list[Text]:
    """Rows down, columns along; the row one stands in is marked."""
    assert facts.picture is not None, "there is nothing to picture"
    return [
        Text.assemble(
            (" ▸" if line == facts.mark else "  ", palette.label), (shades(shares), palette.states[-1])
        )
        for line, shares in enumerate(facts.picture)
    ]


def _value(value: object) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def shades(shares: np.ndarray) -> str:
    """How much differs under each character; anything at all is seen."""
    steps = np.ceil(np.clip(shares, 0, 1) * (len(_SHADES) - 1)).astype(int)
    return "".join(_SHADES[step] for step in steps)


def _line(table: Table, element: Element, *, unit: str, width: int, palette: Palette) -> Text:
    style = palette.changed if element.differs else palette.quiet
    if unit == "bits":
        digits = width // 4
        distance = f"{element.recorded_bits:0{digits}x} {element.replayed_bits:0{digits}x}"
    elif unit == "ulp":
        distance = f"{element.ulp:,}"
    else:
        distance = f"{element.replayed - element.recorded:+.9g}"
    return table.line(
        Text("≠" if element.differs else " ", palette.changed),
        str(element.column),
        f"{element.recorded:.9g}",
        Text(f"{element.replayed:.9g}", style),
        distance,
    )

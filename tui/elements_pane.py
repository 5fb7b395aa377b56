"""The elements of one row of an op in both runs, and a picture of where in the tensor they differ.

A trace holds no tensors: they are shown where they were kept or have been derived again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from rich.text import Text

from detrec.replayer.survey.survey import Survey
from detrec.replayer.survey.tensors import Element, Tensor
from detrec.tui import words
from detrec.tui.moves import Move
from detrec.tui.palette import Palette
from detrec.tui.pane import Pane, holding
from detrec.tui.stand import Place
from detrec.tui.table import Column, Table

UNITS = {"ulp": "ULP", "difference": "difference", "bits": "bits"}
"""What the last column has, by name: the key u goes round."""

_SHADES = " ░▒▓█"
_TALL, _LOW = 6, 3


@dataclass(frozen=True, slots=True)
class Facts:
    """`row` is one of the tensor's; `why` says what is to be done where there is no tensor."""

    name: str
    tensor: Tensor | None
    row: int
    elements: tuple[Element, ...]
    width: int
    why: str


class ElementsPane(Pane):
    """One line an element that differs; all of them where none does."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, title="Elements")
        self.unit = "ulp"

    def read(self, survey: Survey, place: Place) -> Facts:
        """The row's elements, if the op's tensors are at hand."""
        cell, runs = place.cell, survey.runs
        if cell is None or runs is None:
            return Facts("", None, 0, (), 0, "no cell is chosen")
        name = runs.ops[cell.op]
        if survey.other is None:
            return Facts(
                name, None, 0, (), 0, "one run alone: there is no other to take elements of; r replays it"
            )
        kept = survey.tensors()
        if kept is not None and kept.op not in runs.ops and kept.steps[0] == cell.step:
            # an op that the trace does not have, in which a divergence was found to be born
            name = kept.op
        if kept is None or kept.op != name or kept.steps[0] != cell.step:
            return Facts(
                name, None, 0, (), 0, f"no tensors of {name} in step {cell.step}: g derives them again"
            )
        output = kept.named("output")
        if output is None or not output.comparable:
            return Facts(
                name, None, 0, (), 0, f"the outputs of {name} are not of one shape: they cannot be compared"
            )
        here = cell.request, cell.position
        if here not in output.places:
            return Facts(name, None, 0, (), 0, f"{words.place(cell)} is not a row of the tensors at hand")
        row = output.places.index(here)
        ours = output.recorded
        assert ours is not None, "it is comparable"
        return Facts(name, output, row, output.elements(row), 8 * ours.dtype.itemsize, "")

    def show_read(self, facts: Facts, palette: Palette, *, find: str) -> None:
        """Under a picture of the whole tensor."""
        self.border_title = f"Elements of {facts.name}" if facts.name else "Elements"
        if facts.tensor is None:
            self.border_subtitle = ""
            self.show([Text(f" {facts.why}", palette.quiet)])
            return
        values = (Column("recorded", 15, right=True), Column("replayed", 15, right=True))
        unit = Column(UNITS[self.unit], 0 if self.unit == "bits" else 15, right=self.unit != "bits")
        table = Table((Column("", 1), Column("element", 7, right=True), *values, unit))
        differ = sum(element.differs for element in facts.elements)
        line = partial(_line, table, unit=self.unit, width=facts.width, palette=palette)
        some = [element for element in facts.elements if element.differs] or facts.elements
        shown = holding(some, line, find)
        self.border_subtitle = f"{differ:,} of {len(facts.elements):,} differ"
        header = [*self._picture(facts, palette), table.header()]
        self.offer(len(shown), lambda at: line(shown[at]), header=header)

    def _picture(self, facts: Facts, palette: Palette) -> Sequence[Text]:
        """Rows down, columns along; the row one stands in is marked."""
        region = self.scrollable_content_region
        assert facts.tensor is not None, "there is nothing to picture"
        high = _TALL if region.height >= 20 else _LOW
        shares = facts.tensor.picture(high, max(region.width - 3, 8))
        rows, here = len(facts.tensor.differs()), facts.row
        lines = []
        for number, shared in enumerate(shares):
            first, last = (rows * edge // len(shares) for edge in (number, number + 1))
            mark = "▸" if first <= here < last else " "
            lines.append(Text.assemble((f" {mark}", palette.label), (shades(shared), palette.states[-1])))
        return lines

    def way_in(self) -> Move | str:
        """There is nothing below."""
        return "an element is as deep as it gets"


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

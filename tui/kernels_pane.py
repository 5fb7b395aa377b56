"""Which kernel ran each op: first where the runs did not run the same, then all of them."""

from functools import partial

from rich.text import Text

from detrec.replayer.survey.kernels import KernelUse
from detrec.replayer.survey.survey import Survey
from detrec.tui import moves
from detrec.tui.moves import Move
from detrec.tui.ops_pane import kernels
from detrec.tui.palette import Palette
from detrec.tui.pane import Pane, holding
from detrec.tui.stand import Place
from detrec.tui.table import Column, Table, widest


class KernelsPane(Pane):
    """One line for an op and a combination of kernels."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, title="Kernels")
        self._uses: tuple[KernelUse, ...] = ()

    def read(self, survey: Survey, place: Place) -> tuple[tuple[KernelUse, ...], bool]:
        """Every combination."""
        return (() if survey.runs is None else survey.kernels()), survey.other is None

    def show_read(self, facts: tuple[tuple[KernelUse, ...], bool], palette: Palette, *, find: str) -> None:
        """The lines that hold `find`."""
        uses, alone = facts
        self.entitle("Kernels", find)
        name = Column("op", widest([use.name for use in uses], 8, 20))
        columns = (Column("", 1), name, Column("steps", 6, right=True), Column("from", 5, right=True))
        table = Table((*columns, Column("kernel" if alone else "kernel, recorded → replayed")))
        line = partial(_line, table, palette=palette, alone=alone)
        self._uses = tuple(holding(sorted(uses, key=lambda use: not use.differs), line, find))
        differ = sum(use.differs for use in uses)
        self.border_subtitle = "" if alone else f"{differ:,} differ"
        self.offer(
            len(self._uses), lambda at: line(self._uses[at]), header=lambda: [table.header()], cursor=0
        )

    def way_in(self) -> Move | str:
        """To the op, in the first step in which it ran so."""
        if not self._uses:
            return "no kernel is here"
        use = self._uses[self.cursor]
        return lambda survey, place: moves.to_op(survey, moves.to_step(survey, place, use.first), use.op)


def _line(table: Table, use: KernelUse, *, palette: Palette, alone: bool) -> Text:
    style = palette.strong if use.differs else palette.quiet
    return table.line(
        Text("≠" if use.differs else " ", palette.changed),
        Text(use.name, style),
        str(use.steps),
        str(use.first),
        kernels(use.recorded, use.replayed, palette, alone=alone),
    )

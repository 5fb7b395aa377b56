"""One op in every row of a step: where it stands, its state, and both fingerprints."""

from functools import partial

from rich.text import Text

from detrec.printable import counted, printable
from detrec.replayer.survey.cell import Cell, State
from detrec.replayer.survey.rows import RowOfOp
from detrec.tui import words
from detrec.tui.listing import Listing
from detrec.tui.palette import Palette
from detrec.tui.pane import holding
from detrec.tui.table import Column, Table, widest


class RowsPane(Listing):
    """`cells[line]` is the cell that a line shows."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, title="Rows")
        self.cells: tuple[Cell, ...] = ()

    def show_rows(
        self, name: str, here: Cell, rows: tuple[RowOfOp, ...], palette: Palette,
        *, alone: bool, several: bool, find: str = "", born_only: bool = False,
    ) -> None:  # fmt: skip
        """The rows whose line holds `find`, the cursor on `here`."""
        self.entitle(f"Rows of {name} in step {here.step}", find)
        table = _table(rows, alone=alone, several=several)
        line = partial(_line, table, palette=palette, alone=alone, several=several)
        kept = [row for row in rows if row.state is State.BORN] if born_only else rows
        shown = holding(kept, line, find)
        self.cells = tuple(row.cell for row in shown)
        self.border_subtitle = counted(len(shown), "row")
        at = (here.row, here.other)
        cursor = next((index for index, cell in enumerate(self.cells) if (cell.row, cell.other) == at), 0)
        self.offer(len(shown), lambda at: line(shown[at]), header=lambda: [table.header()], cursor=cursor)


def _table(rows: tuple[RowOfOp, ...], *, alone: bool, several: bool) -> Table:
    request = Column("request", widest([printable(row.cell.request) for row in rows], 7, 16))
    rank = [Column("rank", 4, right=True)] if several else []
    prints = [Column("fingerprint", 16)] if alone else [Column("recorded", 16), Column("replayed", 16)]
    return Table((Column("", 1), request, Column("pos", 5, right=True), Column("state", 9), *rank, *prints))


def _line(table: Table, row: RowOfOp, *, palette: Palette, alone: bool, several: bool) -> Text:
    cells: list[str | Text] = [
        palette.symbol(row.state),
        printable(row.cell.request),
        str(row.cell.position),
        Text(row.state.name.lower(), palette.states[row.state]),
    ]
    if several:
        cells.append(str(row.rank))
    cells.append(Text(words.bits(row.recorded), palette.quiet))
    if not alone:
        differs = palette.changed if row.recorded != row.replayed else palette.quiet
        cells.append(Text(words.bits(row.replayed), differs))
    return table.line(*cells)
